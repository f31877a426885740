"""A clip as latents: the VAE encodes a few frames while the others are still in the file."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

import comfy.sd
from comfy_api.v0_0_2 import io

from ..video import SelectedFrames, frames_in_chunks
from .host_progress import host_progress
from .input_clips import check_clip, clip_fingerprint, free_memory, open_clip
from .load_video import CATEGORY, file_input, selection_inputs, typed_selection

PIXELS_AT_ONCE = 8 * 512 * 512


class LoadVideoLatents(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FAD_LoadVideoLatents",
            display_name="Load Video Latents",
            category=CATEGORY,
            description="Load Video Frames and VAE Encode in one: encodes a few frames at a time, so that a long clip needs "
            "memory for its latents alone.",
            search_aliases=[
                "视频",
                "load video",
                "vae encode",
                "video to latent",
                "long video",
                "stream video",
                "load images from folder",
            ],
            inputs=[
                file_input(),
                *selection_inputs(),
                io.Vae.Input(
                    "vae", tooltip="The VAE that encodes the frames, of the checkpoint that renders them."
                ),
            ],
            outputs=[
                io.Latent.Output("latents", tooltip="One latent for each of the selected frames, in order."),
                io.Float.Output("fps", tooltip="The frame rate of the frames, for Decode and Export Video."),
                io.Int.Output("frame_count", tooltip="The number of frames."),
                io.Audio.Output(
                    "audio", tooltip="The sound of the same span; empty when the video has none."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        file: str,
        first_n_seconds: float,
        fps: float,
        start_seconds: float,
        size: str,
        max_frames: int,
        vae: comfy.sd.VAE,
    ) -> io.NodeOutput:
        check_vae(vae)
        selection = typed_selection(first_n_seconds, fps, start_seconds, max_frames)
        with open_clip(file, selection.fps) as source:
            limits = free_memory()
            frames = SelectedFrames(source, selection, size, limits)
            ratio = vae.spacial_compression_encode()
            if min(frames.width, frames.height) < ratio:
                raise ValueError(
                    f"{source.name} gives frames of {frames.width}x{frames.height}, but one latent pixel covers "
                    f"{ratio}x{ratio}. Choose a larger size."
                )
            latent = torch.empty(
                (1, vae.latent_channels, frames.height // ratio, frames.width // ratio), device="meta"
            )
            room = 0 if source.duration_is_rough else frames.expected or 0
            limits.check_frames(source.name, room or 1, (frames.width, frames.height), latent.nbytes)
            at_once = max(1, PIXELS_AT_ONCE // (frames.width * frames.height))
            chunks = frames_in_chunks(frames, at_once, limits, host_progress())
            latents = joined((vae.encode(chunk) for chunk in chunks), room)
            audio = source.audio(selection.start, frames.seconds)
        return io.NodeOutput({"samples": latents}, float(frames.fps), frames.count, audio)

    @classmethod
    def fingerprint_inputs(cls, file: str | None = None, **_: object) -> str | float:
        return clip_fingerprint(file)

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        return check_clip(file)


def check_vae(vae: comfy.sd.VAE) -> None:
    """ValueError for a VAE that encodes several frames into one latent."""
    if vae.latent_dim != 2:
        raise ValueError(
            "This VAE encodes frames together, not one by one. Use the VAE of an SD1.5 checkpoint, or Load Video Frames "
            "and VAE Encode."
        )


def joined(chunks: Iterator[Tensor], expected: int) -> Tensor:
    """All chunks [n, channels, height, width] in one tensor, with room for `expected` frames from the first one on."""
    latents, done = None, 0
    for chunk in chunks:
        end = done + len(chunk)
        if latents is None or end > len(latents):
            larger = chunk.new_empty((max(expected, end, 2 * done), *chunk.shape[1:]))
            larger[:done] = chunk[:0] if latents is None else latents[:done]
            latents = larger
        latents[done:end] = chunk
        done = end
    assert latents is not None  # a clip without frames is refused before
    return latents[:done]


NODES: list[type[io.ComfyNode]] = [LoadVideoLatents]
