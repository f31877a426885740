"""Files that Export Video writes, dropped on the real page: each of them brings its graph back."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from fast_animatediff.tests.workflows.graphs import Graph, api_file, read, ui_file
from fast_animatediff.video import Export, export_video, front_end_tags

pytestmark = pytest.mark.browser
NAME = "Video to Video"


def graph_of(workflow: Graph) -> dict:
    """The nodes with their values, and the links; the page fits the sizes to what the nodes show."""
    nodes = [{key: value for key, value in node.items() if key != "size"} for node in workflow["nodes"]]
    return {"nodes": nodes, "links": workflow["links"], "groups": workflow["groups"]}


@pytest.mark.parametrize(
    "format, channels",
    [
        pytest.param("webp", 3, marks=pytest.mark.slow),
        ("gif", 3),
        pytest.param("webm", 4, marks=pytest.mark.slow),
    ],
)
def test_a_dropped_file_brings_the_graph_back(
    visit: Callable[..., dict], tmp_path: Path, format: str, channels: int
) -> None:
    workflow = read(ui_file(NAME))
    tags = front_end_tags(read(api_file(NAME)), {"workflow": workflow})
    images = torch.rand(4, 64, 64, channels)
    path = export_video(images, tmp_path, "clip", 1, Export(Fraction(8), format), tags=tags)
    carrier = path.with_suffix(".png") if format == "gif" else path
    result = visit("drop_file.js", carrier, "Export Video")
    assert result["complaints"] == [] and result["dialogs"] == []
    assert graph_of(result["workflow"]) == graph_of(workflow)
