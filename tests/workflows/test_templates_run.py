"""The templates beyond the endpoints' own, end to end on the tiny models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from fast_animatediff.dev_server.server import ComfyServer
from fast_animatediff.tests.workflows.graphs import Prompt, api_file, inputs, node_id, read
from fast_animatediff.tiny.domain.measures import jitter
from fast_animatediff.tiny.scoring.workflow_maker import read_clip

pytestmark = pytest.mark.server
CLIP = "moving circle.mp4"


def small(name: str, frames: int = 4) -> Prompt:
    """A template's prompt at 64x64."""
    prompt = read(api_file(name))
    for node in prompt.values():
        if node["class_type"] == "FAD_EmptyVideoLatent":
            node["inputs"].update(video_size="custom", width=64, height=64, num_frames=frames)
        if node["class_type"] == "FAD_LoadVideoFrames":
            node["inputs"].update(file=CLIP, size="source", max_frames=frames)
    return prompt


def made(server: ComfyServer, prompt: Prompt) -> Path:
    (path,) = server.client.run(prompt).files(server.base)
    return path


def test_the_second_pass_makes_the_clip_larger(comfy_server: ComfyServer) -> None:
    prompt = small("Text to Video Two Passes")
    inputs(prompt, "AnimateDiff Sampler").update(steps=2)
    inputs(prompt, "Second Pass").update(steps=5)
    assert read_clip(made(comfy_server, prompt)).shape == (4, 3, 96, 96)
    assert "2 of 5 steps" in comfy_server.log_text()


@pytest.mark.slow
def test_the_second_pass_is_no_more_restless_than_the_first(comfy_server: ComfyServer) -> None:
    """In ten steps; of eight clips in the template's 25, measured once, all were calmer, by an eighth in the mean."""
    prompt = small("Text to Video Two Passes", frames=16)
    inputs(prompt, "Prompt").update(text="a green square moving up on a cloudy background")
    for title in ("AnimateDiff Sampler", "Second Pass"):
        inputs(prompt, title).update(steps=10)
    second = read_clip(made(comfy_server, prompt))
    inputs(prompt, "VAE Decode").update(samples=[node_id(prompt, "AnimateDiff Sampler"), 0])
    first = read_clip(made(comfy_server, prompt))
    assert 0 < jitter(second) <= jitter(first)


def test_the_loop_is_a_gif_in_windows_that_go_round_the_end(comfy_server: ComfyServer) -> None:
    prompt = small("Text to Video GIF Loop", frames=20)
    inputs(prompt, "AnimateDiff Sampler").update(steps=1)
    with Image.open(made(comfy_server, prompt)) as picture:
        assert picture.format == "GIF" and picture.info["loop"] == 0
        assert len(list(ImageSequence.Iterator(picture))) == 20


def test_edges_of_the_video_steer_the_clip(comfy_server: ComfyServer) -> None:
    prompt = small("Video to Video ControlNet")
    inputs(prompt, "AnimateDiff Sampler").update(steps=4)
    steered = read_clip(made(comfy_server, prompt))
    inputs(prompt, "Apply ControlNet").update(strength=0.0)
    free = read_clip(made(comfy_server, prompt))
    assert steered.shape == free.shape == (4, 3, 64, 64)
    assert (steered - free).abs().max() > 0.02


@pytest.mark.slow
def test_unsampling_and_the_same_prompt_give_the_video_back(comfy_server: ComfyServer) -> None:
    prompt = small("Video to Video Unsampling", frames=8)
    words = "a red circle moving left on a spotted olive background"
    for title in ("Source Prompt", "Prompt"):
        inputs(prompt, title).update(text=words)
    inputs(prompt, "Re-animate").update(cfg=1.0)
    inputs(prompt, "BasicScheduler").update(steps=15)
    back = read_clip(made(comfy_server, prompt))
    video = read_clip(comfy_server.base / "input" / CLIP)[::3][:8]
    psnr = -10 * np.log10(float(((back - video) ** 2).mean()))
    assert psnr >= 25
    inputs(prompt, "Prompt").update(text=words.replace("red", "green"))
    inputs(prompt, "Re-animate").update(cfg=3.0)
    assert ((read_clip(made(comfy_server, prompt)) - back) ** 2).mean() > 1e-3


def test_frame_interpolation_takes_the_clip_up_to_its_model(comfy_server: ComfyServer) -> None:
    prompt = small("Text to Video Slow Motion", frames=2)
    inputs(prompt, "AnimateDiff Sampler").update(steps=1)
    inputs(prompt, "Run Frame Interpolation Model").update(multiplier=2)
    assert read_clip(made(comfy_server, prompt)).shape == (3, 3, 64, 64)
