"""A workflow made for other AnimateDiff packs, dropped on the real page: the page offers this pack's nodes for theirs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fast_animatediff.dev_server.server import ComfyServer
from fast_animatediff.replacements.convert import convert
from fast_animatediff.tests.workflows.graphs import read

pytestmark = pytest.mark.browser
PEERS = Path(__file__).resolve().parents[1] / "replacements" / "peers"


def types(workflow: dict) -> list[str]:
    subgraphs = workflow.get("definitions", {}).get("subgraphs", [])
    return sorted(node["type"] for graph in (workflow, *subgraphs) for node in graph["nodes"])


@pytest.mark.parametrize(
    "name", ["text to video", "inside a subgraph", pytest.param("camera moves", marks=pytest.mark.slow)]
)
def test_the_page_replaces_the_nodes_and_runs_what_it_made(
    visit: Callable[..., dict], comfy_server: ComfyServer, name: str
) -> None:
    path = PEERS / f"{name}.json"
    result = visit("open_peer.js", path, "Confirm")
    expected = convert(read(path)).document
    assert types(result["workflow"]) == types(expected)
    assert f"{len(convert(read(path)).replaced)} nodes" in result["question"]
    assert result["complaints"] == [] and result["dialogs"] == []
    assert comfy_server.client.run(result["output"]).files(comfy_server.base)


@pytest.mark.slow
def test_who_declines_keeps_the_nodes(visit: Callable[..., dict]) -> None:
    path = PEERS / "text to video.json"
    result = visit("open_peer.js", path, "Cancel")
    assert sorted(result["types"]) == types(read(path))


def test_who_declines_is_asked_about_other_workflows_and_not_again_about_the_same(
    visit: Callable[..., dict], tmp_path: Path
) -> None:
    """Also where the files have no ids, as those of 2023, or empty ones."""
    files = [PEERS / f"{name}.json" for name in ("text to video", "second pass")]
    assert all("id" not in read(path) for path in files)
    for path in files[:]:
        files.append(tmp_path / path.name)
        files[-1].write_text(json.dumps(read(path) | {"id": ""}))
    result = visit("decline_peers.js", *files)
    assert (result["asked"], result["back"]) == ([1, 1, 1, 1], 0)
