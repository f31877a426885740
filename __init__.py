"""Fast AnimateDiff: re-animate videos and turn prompts into short clips inside ComfyUI."""

from server import PromptServer

from comfy_api.v0_0_2 import ComfyExtension, io

from .endpoints.mounting import mount
from .motion_modules.folders import register_model_folders
from .nodes import NODES
from .nodes.clip_preview import add_clip_routes
from .nodes.node_text import show_log_on_nodes
from .replacements.serving import add_replacements

WEB_DIRECTORY = "./nodes/web"


class FastAnimateDiff(ComfyExtension):
    async def on_load(self) -> None:
        register_model_folders()
        show_log_on_nodes()
        server = getattr(PromptServer, "instance", None)
        if server is not None:  # as it is where the host's nodes are used without its server
            mount(server.app)
            add_clip_routes(server.routes)
            add_replacements(server)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


async def comfy_entrypoint() -> FastAnimateDiff:
    return FastAnimateDiff()
