"""Decode and Export Video beside VAE Decode and Export Video, with a real VAE of small pictures."""

from __future__ import annotations

import inspect
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import av
import pytest
import torch
from torch import Tensor

import comfy.model_management
import comfy.sd
import folder_paths
import nodes as host_nodes
from comfy.ldm.modules.temporal_ae import VideoDecoder
from comfy.nested_tensor import NestedTensor
from comfy.taesd.taesd import TAESD
from comfy_api.v0_0_2 import io
from fast_animatediff.nodes.decode_and_export import DecodeAndExport
from fast_animatediff.nodes.export_video import ExportVideo
from fast_animatediff.tests.components import randomize

FORMATS = ("mp4", "webm", "gif", "webp")
SETTINGS = {"fps": 8.0, "format": "mp4", "quality": "high", "crf": -1, "ping_pong": False, "loop_count": 0}


@pytest.fixture(scope="module")
def vae() -> comfy.sd.VAE:
    """A TAESD with random weights: latents of 4x4 become pictures of 32x32."""
    model = TAESD()
    randomize(model, 5)
    return comfy.sd.VAE(sd=model.state_dict())


@pytest.fixture(autouse=True)
def output(tmp_path: Path) -> Iterator[Path]:
    """The host's output folder in a place of its own; no thread may be left in the end."""
    before, threads = folder_paths.output_directory, set(threading.enumerate())
    folder_paths.set_output_directory(str(tmp_path))
    yield tmp_path
    folder_paths.set_output_directory(before)
    assert set(threading.enumerate()) <= threads


def latents(frames: int = 10) -> Tensor:
    return torch.randn(frames, 4, 4, 4, generator=torch.Generator().manual_seed(6))


def run(node: type[io.ComfyNode], *frames: object, hidden: dict | None = None, **changes) -> io.NodeOutput:
    node = node.PREPARE_CLASS_CLONE({"hidden_inputs": hidden or {}})
    with torch.inference_mode():  # as the host runs nodes
        return node.execute(*frames, **{**SETTINGS, "filename_prefix": "clip", **changes})


def decode_and_export(samples: object, vae: object, frames_at_once: int = 4, **changes) -> io.NodeOutput:
    return run(DecodeAndExport, {"samples": samples}, vae, frames_at_once=frames_at_once, **changes)


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0)]


def frames_of(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_the_inputs_are_those_of_vae_decode_and_export_video() -> None:
    ours, export = (
        [entry.id for entry in node.GET_SCHEMA().inputs] for node in (DecodeAndExport, ExportVideo)
    )
    assert ours == ["samples", "vae", *export[1:], "frames_at_once"]
    assert set(ours) == set(inspect.signature(DecodeAndExport.execute).parameters)


@pytest.mark.parametrize("ping_pong", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_the_file_is_that_of_vae_decode_and_export_video(output, vae, format, ping_pong) -> None:
    decode_and_export(latents(), vae, frames_at_once=10, format=format, ping_pong=ping_pong)
    (images,) = host_nodes.VAEDecode().decode(vae, {"samples": latents()})
    run(ExportVideo, images, format=format, ping_pong=ping_pong)
    paths = output / f"clip_00001_.{format}", output / f"clip_00002_.{format}"
    if format == "webm":  # which has a random id
        assert packets(paths[0]) == packets(paths[1])
    else:
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_chunks_give_the_frames_that_the_vae_makes_of_them(output, vae) -> None:
    decode_and_export(latents(), vae, frames_at_once=3)
    images = torch.cat([vae.decode(chunk) for chunk in latents().split(3)])
    run(ExportVideo, images)
    assert (output / "clip_00001_.mp4").read_bytes() == (output / "clip_00002_.mp4").read_bytes()
    (whole,) = host_nodes.VAEDecode().decode(vae, {"samples": latents()})
    assert torch.allclose(images, whole, atol=1e-5)


@pytest.mark.parametrize("format", FORMATS)
def test_the_video_goes_on_to_other_nodes_and_to_the_page(output, vae, format) -> None:
    video, ui = (result := decode_and_export(latents(6), vae, format=format))[0], result.ui
    assert video.get_components().images.shape[:3] == (6, 32, 32)
    (shown,) = ui["video"]
    assert (shown["filename"], shown["subfolder"], shown["type"]) == (f"clip_00001_.{format}", "", "output")


def test_the_workflow_and_the_sound_are_inside(output, vae) -> None:
    hidden = {io.Hidden.prompt: {"3": {}}, io.Hidden.extra_pnginfo: {"workflow": {"nodes": []}}}
    sound = {"waveform": torch.rand(1, 2, 44100), "sample_rate": 44100}
    decode_and_export(latents(), vae, hidden=hidden, audio=sound)
    with av.open(str(output / "clip_00001_.mp4")) as container:
        assert json.loads(container.metadata["prompt"]) == {"3": {}} and container.streams.audio


def test_latents_with_others_beside_them_are_the_first_ones(output, vae) -> None:
    decode_and_export(NestedTensor([latents(5), torch.zeros(1, 8, 20)]), vae)
    assert frames_of(output / "clip_00001_.mp4") == 5


def test_latents_with_a_time_axis_decode_as_in_vae_decode(output, vae) -> None:
    samples = latents()[:, :, None]
    (images,) = host_nodes.VAEDecode().decode(vae, {"samples": samples})
    decode_and_export(samples, vae)
    assert frames_of(output / "clip_00001_.mp4") == len(images)


class VideoVae:
    """Gives two pictures [clips, frames, height, width, channels] for each latent, as video VAEs do."""

    def decode(self, samples: Tensor) -> Tensor:
        return torch.rand(len(samples), 2, 32, 32, 3)


@pytest.mark.parametrize("format", ["mp4", "webp"])
def test_the_clips_of_a_video_vae_are_joined(output, format) -> None:
    video = decode_and_export(latents(5)[:, :, None], VideoVae(), frames_at_once=2, format=format)[0]
    assert len(video.get_components().images) == 10


class SvdVae:
    """With a decoder of SVD's kind; notes how many latents it is given at a time."""

    def __init__(self) -> None:
        size = {"resolution": 32, "in_channels": 3, "out_ch": 3, "ch": 32, "z_channels": 4, "ch_mult": [1]}
        decoder = VideoDecoder(**size, num_res_blocks=1, attn_resolutions=[], video_kernel_size=[3, 1, 1])
        self.first_stage_model = SimpleNamespace(decoder=decoder)
        self.given: list[int] = []

    def decode(self, samples: Tensor) -> Tensor:
        self.given.append(len(samples))
        return torch.rand(len(samples), 32, 32, 3)


def test_a_vae_that_blends_neighbouring_frames_gets_the_whole_clip(output) -> None:
    decode_and_export(latents(10), vae := SvdVae(), frames_at_once=2)
    assert vae.given == [10]


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        *(
            ((3, 16, 4, 4), "16 channels"),
            ((1, 16, 3, 4, 4), "16 channels"),
            ((3, 128, 1, 4, 4), "128 channels"),
        ),
        *(((4, 4, 4), "3 dimensions"), ((1, 8, 20), "3 dimensions"), ((4, 4), "2 dimensions")),
    ],
    ids=str,
)
def test_latents_of_another_model_are_named_before_anything_is_written(output, vae, shape, found) -> None:
    with pytest.raises(ValueError, match=f"These latents have {found} .* this VAE decodes 4 channels"):
        decode_and_export(torch.zeros(shape), vae)
    assert os.listdir(output) == []


def test_no_latents_at_all_are_named(output, vae) -> None:
    with pytest.raises(ValueError, match="There are no latents to decode"):
        decode_and_export(latents(0), vae)


class CancelledAfter:
    """A VAE at whose third chunk the user presses cancel."""

    calls = 0

    def decode(self, samples: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == 3:
            comfy.model_management.interrupt_current_processing()
        return torch.rand(len(samples), 32, 32, 3)


@pytest.mark.parametrize("format", ["mp4", "gif"])
def test_a_cancelled_run_leaves_no_file_and_decodes_no_further(output, format) -> None:
    vae = CancelledAfter()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        decode_and_export(latents(40), vae, format=format)
    assert vae.calls == 3 and os.listdir(output) == []


def test_frames_that_are_not_finite_are_named(output, vae) -> None:
    samples = latents()
    samples[7] = float("nan")
    with pytest.raises(ValueError, match="Frame 7 holds NaN or infinite values"):
        decode_and_export(samples, vae)
    assert os.listdir(output) == []


def test_a_name_outside_the_output_folder_is_refused_before_anything_is_decoded() -> None:
    with pytest.raises(ValueError, match="points outside the output folder"):
        decode_and_export(latents(), None, filename_prefix="../clip")


def test_a_name_that_is_too_long_is_refused_before_anything_is_decoded(output) -> None:
    with pytest.raises(OSError, match="the name is too long. Shorten filename_prefix"):
        decode_and_export(latents(), None, filename_prefix="n" * 250)


def test_the_name_may_hold_the_size_of_the_frames(output, vae) -> None:
    decode_and_export(torch.randn(2, 4, 4, 6), vae, filename_prefix="clip_%width%x%height%")
    assert os.listdir(output) == ["clip_48x32_00001_.mp4"]


@pytest.mark.parametrize("fps", [0.0, 0.0004])  # rates are fractions of at most 1001
def test_a_rate_of_nothing_is_refused_before_anything_is_decoded(output, fps) -> None:
    with pytest.raises(ValueError, match="fps must be above 0"):
        decode_and_export(latents(), None, fps=fps)
