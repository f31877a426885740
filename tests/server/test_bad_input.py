"""Wrong files, wrong numbers, full disks: a clear error on the right node, nothing written, the server goes on.

What comes after each failure is checked by the fixture `failure`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fast_animatediff.dev_server.client import Interrupted as Cancelled
from fast_animatediff.dev_server.client import NodeFailed, Progress, PromptRefused
from fast_animatediff.dev_server.server import ComfyServer
from fast_animatediff.tests.workflows.graphs import (
    Prompt,
    add,
    inputs,
    node_id,
    turbo_text_to_video,
    video_to_video,
)
from fast_animatediff.tiny.shipped import CHECKPOINT, MOTION_MODULE

pytestmark = pytest.mark.server
Failure = Callable[[Prompt], NodeFailed]
TINY_DISK_BYTES = 64 * 1024


@pytest.fixture
def place(comfy: ComfyServer) -> Iterator[Callable[[str], Path]]:
    """A path below the base directory for a file of the test, which is removed at its end."""
    placed: list[Path] = []

    def path_of(name: str) -> Path:
        placed.append(comfy.base / name)
        placed[-1].parent.mkdir(parents=True, exist_ok=True)
        return placed[-1]

    yield path_of
    for path in placed:
        path.unlink(missing_ok=True)


def with_module(name: str) -> Prompt:
    prompt = turbo_text_to_video()
    inputs(prompt, "Load Motion Module")["motion_module"] = name
    return prompt


def expect(error: NodeFailed, class_type: str, *words: str) -> None:
    assert error.class_type == class_type
    for word in words:
        assert word in error.message


# ---- model files


def test_a_model_that_is_not_there_is_refused_before_anything_runs(comfy: ComfyServer) -> None:
    with pytest.raises(
        PromptRefused, match="FAD_LoadMotionModule.*absent.safetensors is not in models/animatediff_models"
    ):
        comfy.client.run(with_module("absent.safetensors"))


def test_a_truncated_motion_module(comfy: ComfyServer, failure: Failure, place: Callable) -> None:
    whole = (comfy.base / "models" / MOTION_MODULE).read_bytes()
    place("models/animatediff_models/cut.safetensors").write_bytes(whole[: len(whole) // 2])
    error = failure(with_module("cut.safetensors"))
    expect(error, "FAD_LoadMotionModule", "cut.safetensors", "Download it again")


def test_a_motion_lora_in_the_motion_module_folder(
    comfy: ComfyServer, failure: Failure, place: Callable
) -> None:
    lora = comfy.base / "models" / "animatediff_motion_lora" / "v2_lora_ZoomIn.ckpt"
    shutil.copy(lora, place("models/animatediff_models/zoom.ckpt"))
    error = failure(with_module("zoom.ckpt"))
    expect(error, "FAD_LoadMotionModule", "zoom.ckpt", "models/animatediff_motion_lora")


def test_a_motion_module_for_sdxl(failure: Failure, place: Callable) -> None:
    name = "down_blocks.{}.motion_modules.0.temporal_transformer.norm.weight"
    weights = {name.format(level): torch.ones(320 * 2**level) for level in range(3)}
    save_file(weights, place("models/animatediff_models/mm_sdxl.safetensors"))
    expect(failure(with_module("mm_sdxl.safetensors")), "FAD_LoadMotionModule", "mm_sdxl", "SDXL", "SD1.5")


def test_a_motion_module_of_other_widths_than_the_checkpoint(
    comfy: ComfyServer, failure: Failure, place: Callable
) -> None:
    """The same check that keeps an SD1.5 module from an SDXL checkpoint."""
    weights = load_file(comfy.base / "models" / MOTION_MODULE)
    wide = {
        key: value.repeat(*(2 if n % 64 == 0 else 1 for n in value.shape)) for key, value in weights.items()
    }
    wide = {key: value[:, :32] if key.endswith(".pe") else value for key, value in wide.items()}
    save_file(wide, place("models/animatediff_models/wide.safetensors"))
    error = failure(with_module("wide.safetensors"))
    expect(error, "FAD_ApplyMotionModule", "wide.safetensors", "(128, 128, 256, 128)", "(64, 64, 128, 64)")


@pytest.mark.parametrize(
    ("part", "prompt", "class_type", "words"),
    [
        ("model.diffusion_model.out.2.bias", turbo_text_to_video, "FAD_Sampler", "4 of 4 frames"),
        ("first_stage_model.taesd_encoder.14.bias", video_to_video, "FAD_Sampler", "Check the VAE"),
        ("first_stage_model.taesd_decoder.19.bias", turbo_text_to_video, "FAD_ExportVideo", "NaN"),
    ],
    ids=["unet", "vae encoder", "vae decoder"],
)
def test_a_checkpoint_that_computes_nan(
    comfy: ComfyServer,
    failure: Failure,
    place: Callable,
    part: str,
    prompt: Callable,
    class_type: str,
    words: str,
) -> None:
    weights = load_file(comfy.base / "models" / CHECKPOINT)
    weights[part].fill_(float("nan"))
    save_file(weights, place("models/checkpoints/nan.safetensors"))
    broken = prompt()
    inputs(broken, "Load Checkpoint")["ckpt_name"] = "nan.safetensors"
    expect(failure(broken), class_type, "NaN", words)


# ---- videos and numbers


def test_a_start_after_the_end_of_the_video_leaves_no_frames(failure: Failure) -> None:
    prompt = video_to_video()
    inputs(prompt, "Load Video Frames")["start_seconds"] = 100.0
    expect(failure(prompt), "FAD_LoadVideoFrames", "start_seconds", "100", "4 s")


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100], ids=["empty", "text"])
def test_a_file_that_is_no_video(failure: Failure, place: Callable, content: bytes) -> None:
    place("input/broken.mp4").write_bytes(content)
    expect(failure(video_to_video(clip="broken.mp4")), "FAD_LoadVideoFrames", "broken.mp4")


def test_a_video_file_with_nothing_but_sound(failure: Failure, place: Callable) -> None:
    with av.open(str(place("input/sound.mp4")), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 48000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    expect(failure(video_to_video(clip="sound.mp4")), "FAD_LoadVideoFrames", "sound.mp4")


@pytest.mark.parametrize("name", ["absent.mp4", "../../secret.mp4", "/etc/passwd"])
def test_a_video_outside_the_input_folder_is_refused_before_anything_runs(
    comfy: ComfyServer, name: str
) -> None:
    with pytest.raises(PromptRefused, match="FAD_LoadVideoFrames"):
        comfy.client.run(video_to_video(clip=name))


def test_one_frame_runs_with_a_warning(comfy: ComfyServer, video: Callable[[Prompt], Path]) -> None:
    said = len(comfy.log_text())
    with av.open(str(video(video_to_video(seconds=0.1)))) as container:
        assert sum(1 for _ in container.decode(video=0)) == 1
    assert "One frame has no motion" in comfy.log_text()[said:]


def test_a_size_that_is_no_multiple_of_8(failure: Failure) -> None:
    error = failure(turbo_text_to_video(size=100))
    expect(error, "FAD_EmptyVideoLatent", "width 100 is not a multiple of 8", "96 or 104")


def test_an_empty_prompt_runs(video: Callable[[Prompt], Path]) -> None:
    prompt = turbo_text_to_video()
    for title in ("Prompt", "Negative Prompt"):
        inputs(prompt, title)["text"] = ""
    assert video(prompt).stat().st_size


def test_a_context_overlap_as_long_as_the_window(failure: Failure) -> None:
    prompt = turbo_text_to_video()
    values = {"context_length": 8, "context_overlap": 8, "context_schedule": "standard_static"}
    values |= {"fuse_method": "pyramid", "closed_loop": False, "freenoise": False, "context_stride": 1}
    model = inputs(prompt, "Apply Motion Module")["model"]
    inputs(prompt, "Apply Motion Module")["model"] = add(prompt, "FAD_ContextWindows", model=model, **values)
    expect(failure(prompt), "FAD_ContextWindows", "context_overlap 8", "context_length 8")


# ---- output


def test_a_file_where_the_output_folder_should_be(failure: Failure, place: Callable) -> None:
    place("output/blocked").write_text("a file")
    prompt = turbo_text_to_video()
    inputs(prompt, "Export Video")["filename_prefix"] = "blocked/clip"
    expect(failure(prompt), "FAD_ExportVideo", "clip", "could not be written", "filename_prefix")


def test_a_prefix_that_leads_out_of_the_output_folder(comfy: ComfyServer, failure: Failure) -> None:
    prompt = turbo_text_to_video()
    inputs(prompt, "Export Video")["filename_prefix"] = "../outside/clip"
    expect(failure(prompt), "FAD_ExportVideo", "'../outside/clip' points outside the output folder")
    assert not (comfy.base / "outside").exists()


@pytest.fixture
def tiny_disk(comfy: ComfyServer) -> Iterator[Path]:
    """A folder in the output folder that is a disk of its own, of 64 KB."""
    folder = comfy.base / "output" / "tiny disk"
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={TINY_DISK_BYTES}", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        folder.rmdir()
        pytest.skip("A FULL DISK WAS NOT TESTED: it takes a small tmpfs, and this user may not mount one.")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()


def test_a_disk_that_gets_full_while_encoding(failure: Failure, tiny_disk: Path) -> None:
    prompt = video_to_video(seconds=0)
    inputs(prompt, "Load Video Frames").update(fps=24.0, size="fit 512x512 area")
    export = inputs(prompt, "Export Video")
    export |= {"filename_prefix": "tiny disk/clip", "quality": "maximum"}
    export["images"] = [node_id(prompt, "Load Video Frames"), 0]
    expect(failure(prompt), "FAD_ExportVideo", "clip", "the disk is full")
    assert os.listdir(tiny_disk) == []


# ---- cancelling


def test_a_run_cancelled_while_sampling_ends_at_once(comfy: ComfyServer, failure: Failure) -> None:
    steps_seen: list[int] = []

    def cancel_at_step_two(progress: Progress) -> None:
        if progress.class_type == "FAD_Sampler" and progress.total:
            if progress.step >= 2 and max(steps_seen, default=0) < 2:
                interrupt(comfy)
            steps_seen.append(progress.step)

    with pytest.raises(Cancelled):
        comfy.client.run(turbo_text_to_video(frames=16, steps=80, size=128), cancel_at_step_two)
    assert max(steps_seen) < 40


def interrupt(comfy: ComfyServer) -> None:
    """In a thread of its own: the client that calls this is inside its event loop."""
    thread = threading.Thread(target=comfy.client.post, args=("/interrupt", {}))
    thread.start()
    thread.join()
