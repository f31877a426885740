"""The nodes that users see, in the order of the menu."""

from comfy_api.v0_0_2 import io

from . import (
    decode_and_export,
    export_video,
    load_video,
    load_video_latents,
    loaders,
    motion,
    sampling,
    schedules,
)

NODES: list[type[io.ComfyNode]] = [
    *loaders.NODES,
    *motion.NODES,
    *sampling.NODES,
    *schedules.NODES,
    *load_video.NODES,
    *export_video.NODES,
    *decode_and_export.NODES,
    *load_video_latents.NODES,
]
