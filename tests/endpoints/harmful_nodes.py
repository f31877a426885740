"""Nodes for tests of faults: a custom node file of a ComfyUI that a test may lose."""

import time
from pathlib import Path

WAKE = Path(__file__).with_name("wake")


class EndThread:
    """Ends the thread that runs prompts, as an error inside the host's own handling of errors does."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "tests", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent": ("LATENT",)}}

    @classmethod
    def IS_CHANGED(cls, latent):
        return float("nan")  # it runs each time

    def run(self, latent):
        raise SystemExit


class Sleep(EndThread):
    """Shows no sign of life until a file is there, and does not hear that it should stop."""

    def run(self, latent):
        while not WAKE.exists():
            time.sleep(0.05)
        WAKE.unlink()
        return ()


NODE_CLASS_MAPPINGS = {"EndThread": EndThread, "Sleep": Sleep}
