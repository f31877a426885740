"""Workflows as other packs save them (peers/), converted and run: they give the frames that a hand-made graph gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from PIL import Image, ImageSequence

from fast_animatediff.dev_server.server import ComfyServer
from fast_animatediff.replacements.convert import convert
from fast_animatediff.tests.replacements.hand_made import HAND_MADE
from fast_animatediff.tests.server.test_both_prompts import frames_of
from fast_animatediff.tests.workflows.graphs import Prompt, read

pytestmark = pytest.mark.server

PEERS = Path(__file__).with_name("peers")
ALWAYS = (
    "text to video",
    "video to video",
    "prompt travel",
    "api text to video",
)  # the others with test --all


def as_prompt(document: dict[str, Any], server: ComfyServer) -> Prompt:
    """An API prompt as it is; a UI file as the page would send it."""
    from comfy_cli.workflow_to_api import convert_ui_to_api

    if "nodes" not in document:
        return document
    return convert_ui_to_api(document, server.client.get("/object_info"))


def pictures(server: ComfyServer, prompt: Prompt) -> np.ndarray:
    """The frames of the only video that a prompt writes, [n, height, width, 3]."""
    written = server.client.run(prompt).files(server.base)
    (path,) = (path for path in written if "output" in path.parts and path.suffix != ".png")
    if path.suffix in (".gif", ".webp"):
        with Image.open(path) as animation:
            return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(animation)])
    return frames_of(path)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in ALWAYS else pytest.mark.slow) for name in HAND_MADE]
)
def test_a_converted_workflow_gives_the_frames_of_the_hand_made_one(
    comfy_server: ComfyServer, name: str
) -> None:
    conversion = convert(read(PEERS / f"{name}.json"))
    assert conversion.left == [] and conversion.notes == []
    found = pictures(comfy_server, as_prompt(conversion.document, comfy_server))
    expected = pictures(comfy_server, HAND_MADE[name]())
    assert found.shape == expected.shape and len(found) > 1
    assert np.array_equal(found, expected)
    assert found.std(axis=(1, 2, 3)).min() > 0  # pictures, not one colour


def test_the_server_takes_an_api_prompt_with_other_packs_nodes_and_logs_what_is_lost(
    comfy_server: ComfyServer,
) -> None:
    prompt = read(PEERS / "api text to video.json")
    (combine,) = (node for node in prompt.values() if node["class_type"] == "VHS_VideoCombine")
    combine["inputs"]["save_metadata"] = False
    found = pictures(comfy_server, prompt)
    assert np.array_equal(found, pictures(comfy_server, HAND_MADE["api text to video"]()))
    assert (
        "Fast AnimateDiff replaced VHS_VideoCombine (node 10): not carried over: save_metadata"
        in comfy_server.log_text()
    )


def test_the_server_tells_the_page_what_it_would_replace(comfy_server: ComfyServer) -> None:
    workflow = read(PEERS / "text to video.json")
    answer = comfy_server.client.post("/fast_animatediff/replacements", workflow)
    assert answer["workflow"] == convert(workflow).document
    assert sorted(answer["replaced"]) == sorted(type for _, type in convert(workflow).replaced)
    assert answer["left"] == answer["notes"] == []


@pytest.mark.parametrize("body", [[], {}, {"nodes": [{}]}, {"nodes": "x"}])
def test_the_server_refuses_what_is_no_workflow(comfy_server: ComfyServer, body: Any) -> None:
    with pytest.raises(aiohttp.ClientResponseError) as caught:
        comfy_server.client.post("/fast_animatediff/replacements", body)
    assert caught.value.status == 400
