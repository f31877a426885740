"""Fast AnimateDiff: re-animate videos and turn prompts into short clips inside ComfyUI."""

from comfy_api.v0_0_2 import ComfyExtension, io

from .motion_modules.folders import register_model_folders
from .nodes import NODES

WEB_DIRECTORY = "./nodes/web"


class FastAnimateDiff(ComfyExtension):
    async def on_load(self) -> None:
        register_model_folders()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


async def comfy_entrypoint() -> FastAnimateDiff:
    return FastAnimateDiff()
