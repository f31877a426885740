"""Latents into a video file: the encoder writes frames while the VAE decodes those that come after them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

import comfy.sd
from comfy.ldm.modules.temporal_ae import VideoDecoder
from comfy_api.v0_0_2 import InputImpl, io

from ..video import Export, collected, exact_rate, export_video, half_of, in_chunks, write_behind
from .export_video import (
    CATEGORY,
    as_video,
    checked_prefix,
    export_inputs,
    free_place,
    result,
    workflow_tags,
)
from .host_progress import host_progress

LATENT_PIXELS = 8  # pixels to a side of a latent, where the VAE does not say


class DecodeAndExport(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FAD_DecodeAndExport",
            display_name="Decode and Export Video",
            category=CATEGORY,
            description="VAE Decode and Export Video in one: writes an mp4 or webm while the VAE decodes, with only a "
            "few frames in memory.",
            search_aliases=[
                "视频",
                "vae decode",
                "latent to video",
                "save video",
                "stream video",
                "long video",
            ],
            inputs=[
                io.Latent.Input("samples", tooltip="The latents of the frames to write, in order."),
                io.Vae.Input("vae", tooltip="The VAE that decodes the latents."),
                *export_inputs(),
                io.Int.Input(
                    "frames_at_once",
                    default=4,
                    min=1,
                    max=32,
                    advanced=True,
                    tooltip="How many latents at most go through the VAE at a time. mp4 and webm keep at most three times as "
                    "many frames in memory. gif, webp and ping_pong need frames again: all are kept.",
                ),
            ],
            outputs=[io.Video.Output("video", tooltip="The written video, for nodes that go on with it.")],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        samples: Mapping[str, Any],
        vae: comfy.sd.VAE,
        fps: float,
        format: str,
        quality: str,
        filename_prefix: str,
        crf: int,
        ping_pong: bool,
        loop_count: int,
        frames_at_once: int,
        audio: Mapping[str, Any] | None = None,
    ) -> io.NodeOutput:
        settings = Export(exact_rate(fps), format, quality, crf, ping_pong, loop_count)
        prefix = checked_prefix(filename_prefix)
        progress = host_progress()
        latents = pictured(samples)
        check_are_of(vae, latents)
        scale = getattr(
            vae, "spacial_compression_decode", lambda: LATENT_PIXELS
        )()  # other packs' VAEs have none
        width, height = latents.shape[-1] * scale, latents.shape[-2] * scale
        folder, name, counter, subfolder = free_place(prefix, width, height)
        pieces = [latents] if mixes_frames(vae) else latents.split(frames_at_once)
        shape, chunks = in_chunks(pieces, lambda piece: decoded(vae, piece))
        write = partial(
            export_video,
            folder=folder,
            name=name,
            counter=counter,
            settings=settings,
            audio=audio,
            tags=workflow_tags(cls.hidden),
        )
        if settings.reads_once:
            path = write_behind(shape, chunks, lambda frames: write(frames, progress=frames.check), progress)
            video = InputImpl.VideoFromFile(str(path))
        else:
            images = collected(shape, chunks, half_of(progress, 0))
            path = write(images, progress=half_of(progress, 1))
            video = as_video(path, images, settings)
        return io.NodeOutput(video, ui=result(path, subfolder, cls.hidden))


def pictured(samples: Mapping[str, Any]) -> Tensor:
    """The latents of the pictures; those of a model that makes several things at once come first."""
    latents = samples["samples"]
    latents = latents.unbind()[0] if latents.is_nested else latents
    if not len(latents):
        raise ValueError(
            "There are no latents to decode. Check that the node before this one makes at least one."
        )
    return latents


def check_are_of(vae: comfy.sd.VAE, latents: Tensor) -> None:
    """ValueError for latents that the VAE can't decode, as those of another model."""
    channels = getattr(vae, "latent_channels", latents.shape[1])  # other packs' VAEs tell nothing
    if latents.ndim not in (4, 5) or latents.shape[1] != channels:
        found = f"{latents.shape[1]} channels" if latents.ndim in (4, 5) else f"{latents.ndim} dimensions"
        raise ValueError(
            f"These latents have {found} {tuple(latents.shape)}, but this VAE decodes {channels} channels: (frames, "
            f"{channels}, height, width). Use the VAE of the model that made them."
        )


def mixes_frames(vae: comfy.sd.VAE) -> bool:
    """Whether the VAE is SVD's, whose decoder takes SD1.5's latents and blends each frame with its neighbours."""
    network = getattr(vae, "first_stage_model", None)  # other packs' VAEs have none
    return isinstance(getattr(network, "decoder", None), VideoDecoder)


def decoded(vae: comfy.sd.VAE, latents: Tensor) -> Tensor:
    """Images [n, height, width, channels]; the clips of a video VAE are joined, as the host's VAE Decode does."""
    images = vae.decode(latents)
    return images.flatten(0, 1) if images.ndim == 5 else images


NODES: list[type[io.ComfyNode]] = [DecodeAndExport]
