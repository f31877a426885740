"""A custom node of the tests' own: it tells which modules the server's process has imported."""

from __future__ import annotations

import sys


class LoadedModules:
    OUTPUT_NODE = True
    RETURN_TYPES = ()
    FUNCTION = "tell"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802  # the host's name
        return {"required": {}, "optional": {"after": ("*", {"forceInput": True})}}

    @classmethod
    def IS_CHANGED(cls, **inputs: object) -> float:  # noqa: N802
        return float("nan")

    @classmethod
    def VALIDATE_INPUTS(cls, input_types: dict) -> bool:  # noqa: N802
        return True

    def tell(self, after: object = None) -> dict:
        return {"ui": {"modules": sorted(sys.modules), "path": list(sys.path)}}


NODE_CLASS_MAPPINGS = {"LoadedModules": LoadedModules}
