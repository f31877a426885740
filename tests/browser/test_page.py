"""The page as a user drives it: real clicks, real drops, a real run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import av
import pytest

from fast_animatediff.dev_server.server import ComfyServer
from fast_animatediff.tests.workflows.graphs import Graph, Prompt, api_file, read, ui_file

pytestmark = pytest.mark.browser
Visit = Callable[..., dict]
SAVED = ("version", "nodes", "links", "groups", "config")


def graph_of(workflow: Graph) -> dict:
    """What a user built, without the view of it."""
    return {key: workflow[key] for key in SAVED}


def sent_inputs(prompt: Prompt, object_info: dict) -> dict:
    """Kind and inputs of every node, without what the page adds of its own: the labels of buttons and previews."""
    known = {kind: sum(info["input_order"].values(), []) for kind, info in object_info.items()}
    return {
        key: (node["class_type"], {n: v for n, v in node["inputs"].items() if n in known[node["class_type"]]})
        for key, node in prompt.items()
    }


def no_trouble(result: dict) -> None:
    assert result["complaints"] == []
    assert result["dialogs"] == []


@pytest.fixture(scope="module")
def result_of_the_template() -> dict:
    """Filled by the first test, used by the second."""
    return {}


def test_the_template_opens_runs_and_shows_its_video(
    visit: Visit, comfy_server: ComfyServer, result_of_the_template: dict
) -> None:
    result = visit("run_template.js")
    no_trouble(result)
    assert result["picture"] == 320
    assert graph_of(result["opened"]["workflow"]) == graph_of(read(ui_file("Video to Video")))
    shown = result["shown"]
    assert shown["duration"] == pytest.approx(1.0, abs=0.05)
    assert (shown["width"], shown["height"]) == (64, 64)
    assert shown["visible"]
    query = {key: value[0] for key, value in parse_qs(urlsplit(shown["src"]).query).items()}
    assert query["type"] == "output"
    result_of_the_template["path"] = comfy_server.base / "output" / query["subfolder"] / query["filename"]


@pytest.mark.slow
def test_the_video_dropped_on_a_fresh_page_brings_the_graph_back(
    visit: Visit, result_of_the_template: dict, tmp_path: Path
) -> None:
    made = result_of_the_template["path"]
    downloaded = tmp_path / "downloaded.mp4"
    downloaded.write_bytes(made.read_bytes())
    result = visit("drop_file.js", downloaded, "Export Video")
    no_trouble(result)
    with av.open(str(downloaded)) as container:
        inside = json.loads(container.metadata["workflow"])
    assert graph_of(result["workflow"]) == graph_of(inside) and result["workflow"]["id"] == inside["id"]
    template = graph_of(read(ui_file("Video to Video")))
    assert [node["type"] for node in inside["nodes"]] == [node["type"] for node in template["nodes"]]
    assert inside["links"] == template["links"]


@pytest.mark.parametrize(
    "name", ["Video to Video", pytest.param("Turbo Text to Video", marks=pytest.mark.slow)]
)
def test_a_workflow_file_dropped_on_the_page_opens_as_it_was_saved(
    visit: Visit, comfy_server: ComfyServer, name: str
) -> None:
    result = visit("drop_file.js", ui_file(name), "Export Video")
    no_trouble(result)
    assert graph_of(result["workflow"]) == graph_of(read(ui_file(name)))
    object_info = comfy_server.client.get("/object_info")
    assert sent_inputs(result["output"], object_info) == sent_inputs(read(api_file(name)), object_info)


def test_a_workflow_whose_values_are_of_a_wrong_kind_opens_and_can_be_sent(visit: Visit) -> None:
    result = visit("odd_values.js", "null", "7", "true", "[]")
    assert result["dialogs"] == [] and not any("script" in complaint for complaint in result["complaints"])
    assert len(result["opened"]) == 8
    for value, made, opened, sent in result["opened"]:
        assert made == opened == sent, value


def test_a_node_has_a_help_page_and_its_inputs_have_tooltips(visit: Visit) -> None:
    result = visit("help_page.js", ui_file("Turbo Text to Video"), "AnimateDiff Sampler", "strength")
    no_trouble(result)
    assert result["hovered"].startswith("How far a video is re-animated")
    assert "What can go wrong" in result["help"] and result["tables"] == 1


@pytest.mark.slow
def test_prompt_schedule_shows_on_both_kinds_of_nodes_what_was_understood(visit: Visit) -> None:
    result = visit("run_schedule.js", ui_file("Text to Video Prompt Travel"))
    no_trouble(result)
    for kind in ("canvas", "Nodes 2.0"):
        assert [line.rstrip() for line in result["shown"][kind].splitlines()] == [
            "Keys beyond the clip, which ends at frame 3: 24.",
            "4 frames, linear",
            f"2 and before: a <red> __circle__ on *{kind}*",
            "24: a green circle",
        ]
