"""Nodes in the place of the sampler that take a fixed time and need no models: what is measured is all but the work."""

from __future__ import annotations

import time

import torch

from comfy.utils import ProgressBar

REFUSED_SEED = 666  # fails, as a model might


class FleetNote:
    """Has the titles that the endpoints fill in."""

    CATEGORY, FUNCTION, RETURN_TYPES = "tests", "run", ()

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        return ()


class FleetSleep:
    CATEGORY, FUNCTION, RETURN_TYPES = "tests", "run", ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "seed": ("INT", {"max": 2**64 - 1}),
                "steps": ("INT", {"max": 50}),
                "seconds": ("FLOAT", {"max": 600.0}),
            },
            "optional": {"images": ("IMAGE",)},
        }

    @classmethod
    def IS_CHANGED(cls, **inputs):
        return float("nan")  # never answered from the cache

    def run(self, seed, steps, seconds, images=None):
        if seed == REFUSED_SEED:
            raise ValueError(f"There is no picture for seed {seed}.")
        progress = ProgressBar(steps)
        for step in range(steps):
            time.sleep(seconds)
            progress.update_absolute(step + 1)
        if images is None:
            images = torch.rand((2, 64, 64, 3), generator=torch.Generator().manual_seed(seed))
        return (images,)


NODE_CLASS_MAPPINGS = {"FleetNote": FleetNote, "FleetSleep": FleetSleep}
