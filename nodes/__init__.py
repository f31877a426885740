"""The nodes that users see, in the order of the menu."""

from comfy_api.v0_0_2 import io

from . import motion, sampling, video

NODES: list[type[io.ComfyNode]] = [*motion.NODES, *sampling.NODES, *video.NODES]
