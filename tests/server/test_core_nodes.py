"""A model with a motion module is an ordinary model: core's samplers, guiders, LoRAs and long clips work with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fast_animatediff.dev_server.server import ComfyServer
from fast_animatediff.tests.workflows.graphs import (
    Prompt,
    add,
    inputs,
    node_id,
    turbo_text_to_video,
    video_to_video,
)

pytestmark = pytest.mark.server
Latent = Callable[[Prompt, list], Tensor]
SCHEDULES = ("standard_static", "standard_uniform", "looped_uniform", "batched")
LORA = "AnimateLCM_sd15_t2v_lora.safetensors"


@pytest.fixture
def latent(comfy: ComfyServer) -> Latent:
    """Runs a prompt as far as a link; returns that latent, (frames, 4, height, width)."""

    def run(prompt: Prompt, link: list) -> Tensor:
        wanted = {key: node for key, node in prompt.items() if node["class_type"] != "FAD_ExportVideo"}
        add(wanted, "SaveLatent", samples=link, filename_prefix="latents/test")
        comfy.client.run(wanted)
        newest = max((comfy.base / "output" / "latents").iterdir(), key=lambda path: path.name)
        found = load_file(newest)["latent_tensor"]
        assert torch.isfinite(found).all()
        return found

    return run


def parts(prompt: Prompt) -> tuple[list, dict]:
    """The link to the model that the sampler gets, and the sampler's other links."""
    sampler = inputs(prompt, "AnimateDiff Sampler")
    return sampler["model"], {key: sampler[key] for key in ("positive", "negative", "latent_image")}


def small(frames: int = 4, module: str = "mm_sd15_v2.safetensors") -> Prompt:
    prompt = turbo_text_to_video(frames=frames)
    inputs(prompt, "Load Motion Module")["motion_module"] = module
    return prompt


def ksampler(prompt: Prompt, model: list | None = None, **changes: object) -> list:
    """Adds core's KSampler in the place of ours; returns the link to its latent."""
    applied, links = parts(prompt)
    values = {
        "seed": 1,
        "steps": 2,
        "cfg": 7.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 1.0,
    }
    return add(prompt, "KSampler", model=model or applied, **links, **(values | changes))


def test_ksampler_renders_frames_that_know_each_other(latent: Latent) -> None:
    moving, still = small(), small()
    inputs(still, "Apply Motion Module")["strength"] = 0.0
    with_motion, without = latent(moving, ksampler(moving)), latent(still, ksampler(still))
    assert with_motion.shape == (4, 4, 8, 8)
    assert (with_motion - without).abs().max() > 0.01


def with_left_half_white(prompt: Prompt) -> None:
    """Core's nodes for a mask on Apply Motion Module that is white on the left."""
    black, white = (
        add(prompt, "SolidMask", value=value, width=width, height=64)
        for value, width in ((0.0, 64), (1.0, 32))
    )
    mask = add(prompt, "MaskComposite", destination=black, source=white, x=0, y=0, operation="add")
    inputs(prompt, "Apply Motion Module").update(mask=mask, still_background=True)


def is_still(clip: Tensor) -> bool:
    """Whether the right half of all frames is the same, and the left half is not."""
    away = (clip - clip[:1]).abs()
    return bool(away[..., 4:].max() < 1e-2 < away[1:, ..., :4].amax((1, 2, 3)).min())


def test_a_background_is_held_in_our_sampler_and_cores(latent: Latent) -> None:
    ours, cores = small(), small()
    for prompt in (ours, cores):
        with_left_half_white(prompt)
    assert is_still(latent(ours, [node_id(ours, "AnimateDiff Sampler"), 0]))
    assert is_still(latent(cores, ksampler(cores)))


def test_a_background_is_held_over_the_two_halves_of_a_run(latent: Latent) -> None:
    prompt = small()
    with_left_half_white(prompt)
    model, links = parts(prompt)
    half = {
        "model": model,
        "steps": 4,
        "cfg": 7.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        "noise_seed": 1,
    }
    first = add(
        prompt, "KSamplerAdvanced", **half, **links, add_noise="enable", start_at_step=0, end_at_step=2,
        return_with_leftover_noise="enable",
    )  # fmt: skip
    rest = {**links, "latent_image": first}
    second = add(
        prompt, "KSamplerAdvanced", **half, **rest, add_noise="disable", start_at_step=2, end_at_step=4,
        return_with_leftover_noise="disable",
    )  # fmt: skip
    assert is_still(latent(prompt, second))


def test_a_core_lora_works_before_and_after_the_motion_module(latent: Latent) -> None:
    before, after = small(), small()
    inputs(after, "Apply Motion Module")["model"] = [node_id(after, "Load Checkpoint"), 0]
    model, _ = parts(after)
    lora = add(after, "LoraLoaderModelOnly", "After", model=model, lora_name=LORA, strength_model=0.8)
    results = latent(before, ksampler(before)), latent(after, ksampler(after, lora))
    assert torch.equal(*results)
    without = small()
    inputs(without, "Turbo LoRA")["strength_model"] = 0.0
    assert not torch.equal(results[0], latent(without, ksampler(without)))


@pytest.mark.parametrize("guider", ["CFGGuider", "DualCFGGuider"])
def test_custom_sampling_works_with_core_guiders(latent: Latent, guider: str) -> None:
    prompt = small()
    model, links = parts(prompt)
    if guider == "CFGGuider":
        conds = {"positive": links["positive"], "negative": links["negative"], "cfg": 7.0}
    else:
        conds = {"cond1": links["positive"], "cond2": links["positive"], "negative": links["negative"]}
        conds |= {"cfg_conds": 7.0, "cfg_cond2_negative": 3.0, "style": "regular"}
    link = add(
        prompt,
        "SamplerCustomAdvanced",
        noise=add(prompt, "RandomNoise", noise_seed=1),
        guider=add(prompt, guider, model=model, **conds),
        sampler=add(prompt, "KSamplerSelect", sampler_name="euler"),
        sigmas=add(prompt, "BasicScheduler", model=model, scheduler="normal", steps=2, denoise=1.0),
        latent_image=links["latent_image"],
    )
    result = latent(prompt, link)
    assert result.shape == (4, 4, 8, 8)
    if guider == "CFGGuider":
        same = small()
        assert torch.allclose(result, latent(same, ksampler(same)), atol=1e-5)


@pytest.mark.parametrize("frames", [33, 64])
def test_long_clips_get_context_windows_by_themselves(
    comfy: ComfyServer, latent: Latent, frames: int
) -> None:
    prompt = small(frames)
    assert latent(prompt, [node_id(prompt, "AnimateDiff Sampler"), 0]).shape[0] == frames
    assert f"{frames} frames are more than mm_sd15_v2.safetensors renders at once" in comfy.log_text()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_context_windows_of_every_schedule(comfy: ComfyServer, latent: Latent, schedule: str) -> None:
    prompt = small(frames=20)
    model, _ = parts(prompt)
    values = {"context_length": 8, "context_overlap": 2, "fuse_method": "pyramid", "freenoise": True}
    values |= {"closed_loop": schedule == "looped_uniform", "context_stride": 1}
    inputs(prompt, "AnimateDiff Sampler")["model"] = add(
        prompt, "FAD_ContextWindows", model=model, context_schedule=schedule, **values
    )
    log_before = len(comfy.log_text())
    assert latent(prompt, [node_id(prompt, "AnimateDiff Sampler"), 0]).shape[0] == 20
    assert "20 frames in context windows of 8, overlap 2" in comfy.log_text()[log_before:]


def test_at_cfg_1_the_negative_prompt_has_no_effect(latent: Latent) -> None:
    results = []
    for negative in ("ugly", "something else"):
        prompt = small()
        inputs(prompt, "AnimateDiff Sampler").update(cfg=1.0, steps=2)
        inputs(prompt, "Negative Prompt")["text"] = negative
        results.append(latent(prompt, [node_id(prompt, "AnimateDiff Sampler"), 0]))
    assert torch.equal(*results)


def test_strength_0_returns_the_video_as_it_was(latent: Latent) -> None:
    prompt = video_to_video(seconds=0.5)
    inputs(prompt, "AnimateDiff Sampler")["strength"] = 0.0
    encoded = latent(prompt, [node_id(prompt, "VAE Encode"), 0])
    assert torch.equal(encoded, latent(prompt, [node_id(prompt, "AnimateDiff Sampler"), 0]))


def test_less_strength_stays_closer_to_the_video(latent: Latent) -> None:
    distances = []
    for strength in (0.3, 0.9):
        prompt = video_to_video(seconds=0.5, steps=10)
        inputs(prompt, "AnimateDiff Sampler")["strength"] = strength
        encoded = latent(prompt, [node_id(prompt, "VAE Encode"), 0])
        changed = latent(prompt, [node_id(prompt, "AnimateDiff Sampler"), 0])
        distances.append((changed - encoded).abs().mean())
    assert distances[0] < distances[1]


def test_frames_of_core_load_video_can_be_sampled(comfy: ComfyServer) -> None:
    prompt: Prompt = {}
    prompt["1"] = {
        "class_type": "LoadVideo",
        "inputs": {"file": "moving circle.mp4"},
        "_meta": {"title": "In"},
    }
    values = {"first_n_seconds": 1.0, "fps": 8.0, "start_seconds": 0.0, "size": "source", "max_frames": 0}
    add(prompt, "FAD_SampleVideoFrames", "Frames", video=["1", 0], **values)
    video = add(prompt, "CreateVideo", images=["2", 0], fps=["2", 1])
    add(prompt, "SaveVideo", video=video, filename_prefix="core/clip", format="auto", codec="auto")
    (path,) = comfy.client.run(prompt).files(comfy.base)
    assert Path(path).stat().st_size
