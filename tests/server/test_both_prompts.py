"""Both API prompts, run small on a real server: what comes out is a video file that plays everywhere."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from fast_animatediff.dev_server.server import ComfyServer
from fast_animatediff.tests.workflows.graphs import (
    Prompt,
    add,
    inputs,
    node_id,
    read,
    turbo_text_to_video,
    ui_file,
    video_to_video,
)

pytestmark = pytest.mark.server
Run = Callable[[Prompt], Path]
BT709, SRGB, LIMITED = 1, 13, 1


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def boxes(data: bytes) -> list[str]:
    """The top-level boxes of an mp4, in order."""
    names, place = [], 0
    while place < len(data):
        names.append(data[place + 4 : place + 8].decode("latin-1"))
        place += int.from_bytes(data[place : place + 4], "big")
    return names


def check_mp4(path: Path, frames: int, fps: Fraction, size: tuple[int, int]) -> None:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == size
        assert stream.average_rate == fps and stream.base_rate == fps
        decoded = list(container.decode(stream))
        assert len(decoded) == frames
        assert [frame.time * fps for frame in decoded] == pytest.approx(range(frames))
        tags = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
        assert tuple(map(int, tags)) == (BT709, BT709, SRGB, LIMITED)
    order = boxes(path.read_bytes())
    assert order.index("moov") < order.index("mdat")


def run_as_the_page_does(comfy: ComfyServer, prompt: Prompt, name: str) -> dict:
    """Posts a prompt with its UI file, as the page's Run button; returns what /history says in the end."""
    extra = {"extra_pnginfo": {"workflow": read(ui_file(name))}}
    prompt_id = comfy.client.post("/prompt", {"prompt": prompt, "extra_data": extra})["prompt_id"]
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        history = comfy.client.get(f"/history/{prompt_id}")
        if history:
            return history[prompt_id]
        time.sleep(0.1)
    raise TimeoutError("The prompt was not done in time.")


def test_video_to_video_gives_the_asked_seconds_at_the_asked_fps(video: Run) -> None:
    check_mp4(video(video_to_video(seconds=1.5)), frames=12, fps=Fraction(8), size=(64, 64))


def test_turbo_text_to_video_gives_the_asked_frames_in_the_asked_size(video: Run) -> None:
    prompt = turbo_text_to_video(frames=16, steps=2)
    inputs(prompt, "Empty Video Latent").update(width=72, height=128)
    check_mp4(video(prompt), frames=16, fps=Fraction(8), size=(72, 128))


def test_latents_go_into_a_video_in_one_node(comfy: ComfyServer) -> None:
    prompt = turbo_text_to_video(frames=6)
    vae = prompt.pop(node_id(prompt, "VAE Decode"))["inputs"]["vae"]
    settings = prompt.pop(node_id(prompt, "Export Video"))["inputs"]
    del settings["images"]
    samples = [node_id(prompt, "Empty Video Latent"), 0]
    key, _ = add(prompt, "FAD_DecodeAndExport", samples=samples, vae=vae, **settings, frames_at_once=4)
    history = run_as_the_page_does(comfy, prompt, "Turbo Text to Video")
    (shown,) = history["outputs"][key]["video"]
    path = comfy.base / "output" / shown["subfolder"] / shown["filename"]
    check_mp4(path, frames=6, fps=Fraction(8), size=(64, 64))


def test_a_gif_is_re_animated_too(video: Run) -> None:
    prompt = video_to_video(seconds=1.0, clip="moving circle.gif")
    check_mp4(video(prompt), frames=8, fps=Fraction(8), size=(64, 64))


def test_broadcast_rates_stay_exact(video: Run) -> None:
    prompt = turbo_text_to_video()
    inputs(prompt, "Export Video")["fps"] = 30000 / 1001
    check_mp4(video(prompt), frames=4, fps=Fraction(30000, 1001), size=(64, 64))


def test_the_preset_square_is_512_pixels_wide(video: Run) -> None:
    prompt = turbo_text_to_video(frames=1)
    inputs(prompt, "Empty Video Latent")["video_size"] = "square 512x512"
    check_mp4(video(prompt), frames=1, fps=Fraction(8), size=(512, 512))


@pytest.mark.parametrize("name", ["Video to Video", "Turbo Text to Video"])
def test_the_file_holds_the_prompt_and_the_workflow(comfy: ComfyServer, name: str) -> None:
    prompt = video_to_video() if name == "Video to Video" else turbo_text_to_video()
    history = run_as_the_page_does(comfy, prompt, name)
    (shown,) = history["outputs"][node_id(prompt, "Export Video")]["video"]
    with av.open(str(comfy.base / "output" / shown["subfolder"] / shown["filename"])) as container:
        metadata = dict(container.metadata)
    saved = json.loads(metadata["prompt"])
    assert {key: (node["class_type"], node["inputs"]) for key, node in saved.items()} == {
        key: (node["class_type"], node["inputs"]) for key, node in prompt.items()
    }
    assert json.loads(metadata["workflow"]) == read(ui_file(name))


def test_the_node_shows_the_video_that_it_wrote(comfy: ComfyServer) -> None:
    prompt = turbo_text_to_video()
    history = run_as_the_page_does(comfy, prompt, "Turbo Text to Video")
    shown = history["outputs"][node_id(prompt, "Export Video")]
    (entry,) = shown["video"]
    assert entry["type"] == "output" and entry["filename"].endswith(".mp4")


def test_the_same_seed_gives_the_same_frames_and_another_seed_others(comfy: ComfyServer, video: Run) -> None:
    results = []
    for seed in (7, 7, 8):
        comfy.client.post("/free", {"unload_models": True, "free_memory": True})  # nothing from the cache
        prompt = turbo_text_to_video(frames=4, steps=2)
        inputs(prompt, "AnimateDiff Sampler")["seed"] = seed
        results.append(frames_of(video(prompt)))
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_a_motion_lora_changes_the_motion(video: Run) -> None:
    plain, moved = video_to_video(), video_to_video()
    lora = {"motion_lora": "v2_lora_ZoomIn.ckpt", "strength": 1.0}
    moved["100"] = {"class_type": "FAD_MotionLora", "inputs": lora, "_meta": {"title": "Motion LoRA"}}
    inputs(moved, "Apply Motion Module")["motion_lora"] = ["100", 0]
    assert not np.array_equal(frames_of(video(plain)), frames_of(video(moved)))
