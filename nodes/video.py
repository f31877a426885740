"""The video nodes: files and VIDEO values to frames, frames to files."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from . import decode_and_export, export_video, load_video

NODES: list[type[io.ComfyNode]] = [*load_video.NODES, *export_video.NODES, *decode_and_export.NODES]
