"""Prompt Schedule through the workflow that ships with it: what the tiny family makes of prompts that change on the way.

Four clips of the movement are judged with `--all`; of 16, measured once, all turned within 4 frames.
"""

from __future__ import annotations

import asyncio
import html
import json
import struct
import uuid
from collections.abc import Callable
from dataclasses import replace

import aiohttp
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fast_animatediff.dev_server.client import NodeFailed
from fast_animatediff.dev_server.server import ComfyServer
from fast_animatediff.tests.workflows.graphs import Prompt, add, api_file, inputs, node_id, read
from fast_animatediff.tiny.domain.captions import plain_caption
from fast_animatediff.tiny.domain.measures import heading
from fast_animatediff.tiny.domain.subjects import Subject, find_subject, movement_of
from fast_animatediff.tiny.scoring.score_card import held_out
from fast_animatediff.tiny.scoring.workflow_maker import WorkflowMaker

pytestmark = pytest.mark.server
FRAMES, TURN = 48, 24
TEXT_EVENT = 3


@pytest.fixture(scope="module")
def make(comfy: ComfyServer) -> WorkflowMaker:
    return WorkflowMaker(comfy.client, comfy.base, size=64)


def travel(
    schedule: str,
    frames: int = FRAMES,
    before: str = "",
    after: str = "",
    interpolation: str = "linear",
    seed: int = 1,
    steps: int = 8,
) -> Prompt:
    """The API prompt with the turbo module, small."""
    prompt = read(api_file("Text to Video Prompt Travel"))
    turbo = {"lora_name": "AnimateLCM_sd15_t2v_lora.safetensors", "strength_model": 1.0}
    checkpoint = [node_id(prompt, "Load Checkpoint"), 0]
    inputs(prompt, "Load Motion Module")["motion_module"] = "mm_sd15_AnimateLCM.safetensors"
    inputs(prompt, "Apply Motion Module")["model"] = add(
        prompt, "LoraLoaderModelOnly", model=checkpoint, **turbo
    )
    inputs(prompt, "Prompt Schedule").update(
        schedule=schedule, num_frames=frames, before=before, after=after, interpolation=interpolation
    )
    inputs(prompt, "Empty Video Latent").update(video_size="custom", width=64, height=64, num_frames=frames)
    inputs(prompt, "AnimateDiff Sampler").update(steps=steps, cfg=2.0, seed=seed)
    return prompt


def sampled(comfy: ComfyServer, prompt: Prompt, link: list | None = None) -> Tensor:
    """The latent at a link, or of the sampler, (frames, 4, height, width)."""
    wanted = {key: node for key, node in prompt.items() if node["class_type"] != "FAD_ExportVideo"}
    samples = link or [node_id(prompt, "AnimateDiff Sampler"), 0]
    add(wanted, "SaveLatent", samples=samples, filename_prefix="schedules/test")
    comfy.client.run(wanted)
    newest = max((comfy.base / "output" / "schedules").iterdir(), key=lambda path: path.name)
    return load_file(newest)["latent_tensor"]


# ---- meaning


def part(subject: Subject, start: int, end: int) -> Subject:
    arrays = {name: getattr(subject, name)[start:end] for name in ("mask", "x", "y", "radius")}
    return replace(subject, **arrays)


def turn(make: WorkflowMaker, number: int) -> tuple[bool, int]:
    """Asks for left, then up. Whether the subject goes so before and after; the frame at which it is farthest left and down.

    One window ends where the prompt changes: a motion module sees all frames of a window at once, and in a window that
    holds both prompts the subject moves aslant in most frames.
    """
    asked = held_out("prompt travel", 16)[number]
    before, place, after = plain_caption(asked, 0, motion=False).partition(" on a ")
    schedule = f"0: moving left slowly\n{TURN}: moving up slowly"
    prompt = travel(schedule, FRAMES, before, place + after, "hold", seed=4000 + number)
    inputs(prompt, "Context Windows (AnimateDiff)").update(context_length=TURN, context_overlap=2)
    subject = find_subject(make.run(prompt))
    ways = [
        heading(movement_of(half), TURN) for half in (part(subject, 0, TURN), part(subject, TURN, FRAMES))
    ]
    return ways == ["left", "up"], int(np.nanargmax(subject.y - subject.x))


def test_a_subject_turns_where_the_prompt_does(make: WorkflowMaker) -> None:
    is_right, frame = turn(make, 2)
    assert is_right and abs(frame - TURN) <= 4, frame


@pytest.mark.slow
def test_a_colour_travels_from_red_to_green_and_not_back(make: WorkflowMaker) -> None:
    """In eighths of the clip. A single frame half-way may go back: which of two colours it takes is as good as a lot."""
    prompt = travel(f"0: red\n{FRAMES - 1}: green", before="a large", after="circle standing still")
    clip = make.run(prompt)
    red, green = (find_subject(end).colour for end in (clip[:6], clip[-6:]))
    assert (red, green) == ("red", "green")
    greenness = clip[:, 1] / (clip[:, 0] + clip[:, 1])  # of each pixel; the same for any brightness
    mask = torch.from_numpy(find_subject(clip).mask)
    shares = torch.stack([frame[seen].mean() for frame, seen in zip(greenness, mask, strict=True)])
    eighths = shares.unflatten(0, (8, -1)).nanmean(1)
    way = (eighths - eighths[0]) / (eighths[-1] - eighths[0])
    assert (way.diff() > -0.01).all() and ((way > 0.1) & (way < 0.9)).any(), way


# ---- the same as without


def test_a_constant_schedule_gives_the_clip_of_the_plain_prompt(comfy: ComfyServer) -> None:
    text = "a red circle moving left on a plain navy background"
    constant = travel(f"0: {text}\n12: {text}", frames=20, steps=2)
    alone = travel("0:", frames=20, steps=2)
    clip = [node_id(alone, "Load Checkpoint"), 1]
    encoded = add(alone, "CLIPTextEncode", clip=clip, text=text)
    inputs(alone, "AnimateDiff Sampler")["positive"] = encoded
    assert (sampled(comfy, constant) - sampled(comfy, alone)).abs().max() <= 1e-6


def test_core_ksampler_takes_a_schedule_as_positive_and_negative(comfy: ComfyServer) -> None:
    results = []
    for negative in ("0: bad quality\n19: ugly faces", "0: blue\n19: white"):
        prompt = travel("0: a red circle\n19: a green circle", frames=20)
        clip = [node_id(prompt, "Load Checkpoint"), 1]
        values = {"num_frames": 20, "before": "", "after": "", "interpolation": "ease"}
        schedule = add(prompt, "FAD_PromptSchedule", "Negative", clip=clip, schedule=negative, **values)
        sampler = inputs(prompt, "AnimateDiff Sampler")
        links = {key: sampler[key] for key in ("model", "positive", "latent_image")}
        values = {"seed": 1, "steps": 2, "cfg": 4.0, "denoise": 1.0}
        values |= {"sampler_name": "lcm", "scheduler": "normal", "negative": schedule}
        results.append(sampled(comfy, prompt, add(prompt, "KSampler", **links, **values)))
    assert all(result.isfinite().all() for result in results)
    assert not torch.equal(*results)


# ---- what the node says


async def texts_on_nodes(comfy: ComfyServer, prompt: Prompt, asks: bool = True) -> dict[str, str]:
    """By node id, what the server told a page to show on it, while a prompt ran that it asked for, or another one."""
    shown, client, asking = {}, uuid.uuid4().hex, uuid.uuid4().hex
    async with aiohttp.ClientSession(comfy.base_url) as session:
        async with (
            session.ws_connect(f"/ws?clientId={client}", max_msg_size=0) as socket,
            session.ws_connect(f"/ws?clientId={asking}", max_msg_size=0) as other,
        ):
            await session.post("/prompt", json={"prompt": prompt, "client_id": client if asks else asking})
            if not asks:
                async for message in other:
                    if message.type == aiohttp.WSMsgType.TEXT and "execution_success" in message.data:
                        break
                await session.post("/prompt", json={"prompt": prompt, "client_id": client})  # to end below
            async for message in socket:
                if message.type == aiohttp.WSMsgType.BINARY:
                    kind, length = struct.unpack_from(">II", message.data)
                    if kind == TEXT_EVENT:
                        body = message.data[8:].decode("utf-8")
                        shown[body[:length]] = body[length:]
                elif json.loads(message.data)["type"] in ("execution_success", "execution_error"):
                    return shown
    raise ConnectionError("The server closed the connection.")


def test_the_node_shows_what_was_understood_and_the_log_names_keys_beyond_the_clip(
    comfy: ComfyServer,
) -> None:
    prompt = travel('{"2": "a <red> circle", "24": "a green\ncircle",}', frames=8, steps=1)
    before = len(comfy.log_text())
    shown = asyncio.run(texts_on_nodes(comfy, prompt))
    lines = shown[node_id(prompt, "Prompt Schedule")].split("  \n")
    assert [html.unescape(line) for line in lines] == [
        "Keys beyond the clip, which ends at frame 7: 24.",
        "8 frames, linear",
        "2 and before: a <red> circle",
        "24: a green circle",
    ]
    assert "Prompt Schedule: Keys beyond the clip, which ends at frame 7: 24." in comfy.log_text()[before:]


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("", "The schedule is empty"),
        (
            "0: a cat\na dog",
            "Line 2: expected a key such as 24: a prompt; found a dog.",
        ),
        ("0: a cat\n-8: a dog", "Line 2: frame -8 is negative"),
        ('"0": "a cat", "0": "a dog"', "Line 1: frame 0 was given before"),
    ],
)
def test_a_schedule_that_is_not_understood_fails_on_its_node(
    failure: Callable[[Prompt], NodeFailed], schedule: str, words: str
) -> None:
    error = failure(travel(schedule, frames=4))
    assert error.class_type == "FAD_PromptSchedule" and words in error.message


@pytest.mark.parametrize(
    "schedule",
    [
        "0: {red|blue} cat, {2$$a|b}\n3: } a {",
        "0: 猫、夜\n3: кошка",
        "\n".join(f"{frame}: prompt {frame}" for frame in range(10_000)),
        "0: " + "cat " * 25_000,
    ],
    ids=["braces", "other alphabets", "10,000 keys", "100 kB"],
)
def test_unusual_schedules_are_encoded(comfy: ComfyServer, schedule: str) -> None:
    assert sampled(comfy, travel(schedule, frames=4, steps=1)).shape == (4, 4, 8, 8)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1, 3])
def test_other_subjects_turn_where_the_prompt_does(make: WorkflowMaker, number: int) -> None:
    is_right, frame = turn(make, number)
    assert is_right and abs(frame - TURN) <= 4, frame


def test_what_a_node_says_reaches_only_the_page_that_asked_for_the_run(comfy: ComfyServer) -> None:
    prompt = travel("0: a circle\n7: a square", frames=8, steps=1)
    assert (
        asyncio.run(texts_on_nodes(comfy, prompt, asks=False)) == {}
    )  # the second run takes all from the first
    prompt = travel("0: a circle\n7: a star", frames=8, steps=1)
    assert node_id(prompt, "Prompt Schedule") in asyncio.run(texts_on_nodes(comfy, prompt))
