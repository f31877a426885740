"""Teaches the development host to open checkpoints of the tiny family. The product never depends on it."""

from __future__ import annotations

from comfy_api.v0_0_2 import ComfyExtension, io


class TinyFamily(ComfyExtension):
    async def on_load(self) -> None:
        from .family import register

        register()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return []


async def comfy_entrypoint() -> TinyFamily:
    return TinyFamily()
