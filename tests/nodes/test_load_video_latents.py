"""Load Video Latents beside Load Video Frames and VAE Encode, with a real VAE of small pictures."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import comfy.model_management
import comfy.sd
import nodes as host_nodes
from comfy.taesd.taesd import TAESD
from comfy_api.v0_0_2 import io
from fast_animatediff.benchmarks.compare.machine import process_peak
from fast_animatediff.nodes import load_video_latents
from fast_animatediff.nodes.export_video import ExportVideo
from fast_animatediff.nodes.load_video import LoadVideoFrames
from fast_animatediff.nodes.load_video_latents import LoadVideoLatents
from fast_animatediff.tests.components import randomize

pytestmark = pytest.mark.usefixtures("folders")
WHOLE = {"first_n_seconds": 0.0, "fps": 8.0, "start_seconds": 0.0, "size": "source", "max_frames": 0}
EXPORT = {"format": "mp4", "quality": "high", "crf": -1, "ping_pong": False, "loop_count": 0}


@pytest.fixture(scope="module")
def vae() -> comfy.sd.VAE:
    """A TAESD with random weights: pictures of 32x32 become latents of 4x4."""
    model = TAESD()
    randomize(model, 5)
    return comfy.sd.VAE(sd=model.state_dict())


class PoolingVae:
    """A VAE whose latents are means of 8x8 pixels, for clips that a network would take minutes for."""

    latent_dim, latent_channels = 2, 3

    def spacial_compression_encode(self) -> int:
        return 8

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8)


def make_clip(folders: Path, frames: int, size: int = 64, **options: object) -> str:
    images = torch.rand(frames, 4, 4, 3, generator=torch.Generator().manual_seed(1))
    images = images.repeat_interleave(size // 4, 1).repeat_interleave(size // 4, 2)
    ExportVideo.PREPARE_CLASS_CLONE({"hidden_inputs": {}}).execute(
        images, fps=24.0, filename_prefix="made", **EXPORT, **options
    )
    (folders / "output" / "made_00001_.mp4").rename(folders / "input" / "clip.mp4")
    return "clip.mp4"


def load(file: str, vae: object, **changes: object) -> io.NodeOutput:
    with torch.inference_mode():
        return LoadVideoLatents.execute(file, **{**WHOLE, **changes}, vae=vae)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"fps": 0.0},
        {"fps": 60.0, "first_n_seconds": 0.3},  # every frame more than once
        {"start_seconds": 1.2, "max_frames": 5},
    ],
)
def test_the_latents_are_those_of_load_video_frames_and_vae_encode(
    folders, vae, changes, monkeypatch
) -> None:
    monkeypatch.setattr(load_video_latents, "PIXELS_AT_ONCE", 3 * 64 * 64)
    file = make_clip(folders, 48, audio={"waveform": torch.zeros(1, 2, 88200), "sample_rate": 44100})
    images, fps, count, audio, _ = LoadVideoFrames.execute(file, **{**WHOLE, **changes}).args
    with torch.inference_mode():
        expected = host_nodes.VAEEncode().encode(vae, images)[0]["samples"]
    latent, *others, sound = load(file, vae, **changes).args
    torch.testing.assert_close(latent["samples"], expected, rtol=1e-4, atol=1e-4)
    assert others == [fps, count] and len(latent["samples"]) == count
    assert sound["waveform"].shape == audio["waveform"].shape


def test_a_clip_whose_length_nobody_knows_gives_all_its_latents(folders, monkeypatch) -> None:
    file = make_clip(folders, 30)
    monkeypatch.setattr("fast_animatediff.video.reading.stream.PictureStream.duration", lambda _: None)
    latent, _, count, _ = load(file, PoolingVae(), fps=24.0).args
    assert (len(latent["samples"]), count) == (30, 30)


def test_frames_go_through_the_vae_a_few_at_a_time(folders, monkeypatch) -> None:
    sizes, encode = [], PoolingVae.encode
    monkeypatch.setattr(
        PoolingVae, "encode", lambda self, pixels: sizes.append(len(pixels)) or encode(self, pixels)
    )
    load(make_clip(folders, 48), PoolingVae(), size="square 512x512")
    assert sizes == [8, 8]


def test_more_latents_than_fit_are_refused_before_any_frame_is_encoded(folders, monkeypatch) -> None:
    file = make_clip(folders, 48, size=256)
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda *_: 150_000)
    monkeypatch.setattr(PoolingVae, "encode", lambda *_: pytest.fail("frames were encoded"))
    with pytest.raises(ValueError, match=r"16 frames of 512x512 .* There is room for 3\. .*max_frames"):
        load(file, PoolingVae(), size="square 512x512")


def test_frames_smaller_than_a_latent_pixel_are_refused(folders) -> None:
    with pytest.raises(ValueError, match=r"clip\.mp4 gives frames of 4x4, .* 8x8\. Choose a larger size"):
        load(make_clip(folders, 2, size=4), PoolingVae())


def test_a_vae_that_mixes_frames_is_refused(folders) -> None:
    class VideoVae:
        latent_dim = 3

    with pytest.raises(ValueError, match="encodes frames together"):
        load(make_clip(folders, 4), VideoVae())


def test_a_cancelled_run_encodes_no_further(folders, monkeypatch) -> None:
    file, encoded, encode = make_clip(folders, 48), [], PoolingVae.encode

    def encode_and_cancel(self: PoolingVae, pixels: torch.Tensor) -> torch.Tensor:
        encoded.append(len(pixels))
        comfy.model_management.interrupt_current_processing()
        return encode(self, pixels)

    monkeypatch.setattr(PoolingVae, "encode", encode_and_cancel)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        load(file, PoolingVae(), size="square 512x512")
    assert encoded == [8]


def test_a_folder_of_pictures_becomes_latents(folders, vae) -> None:
    folder = folders / "input" / "walk"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.full((64, 64, 3), number * 60, np.uint8)).save(folder / f"{number}.png")
    latent, fps, count, audio = load("walk/", vae).args
    assert (len(latent["samples"]), fps, count, audio) == (3, 8.0, 3, None)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read as Linux gives it")
def test_memory_grows_by_the_latents_alone(folders) -> None:
    """Ten times the frames are 18 MB more of latents; as images they would be 1,360 MB more."""
    file = make_clip(folders, 160, size=256)
    load(file, PoolingVae(), size="square 512x512", max_frames=16)  # libraries are in memory from here on
    peaks = []
    for frames in (
        48,
        480,
    ):  # six batches and more, so that both are read ahead of the encoder as far as it goes
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what the tests before have freed would serve the first clip alone
        before = process_peak(reset=True)
        result = load(file, PoolingVae(), size="square 512x512", fps=80.0, max_frames=frames).args
        assert len(result[0]["samples"]) == frames
        peaks.append(process_peak() - before)
    assert peaks[1] - peaks[0] < 60e6
