"""The templates after a run: what the nodes show then has its room, in both kinds of nodes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from fast_animatediff.dev_server.server import ComfyServer
from fast_animatediff.tests.workflows.graphs import API_NAMES, Graph, read, ui_file

pytestmark = [pytest.mark.browser, pytest.mark.slow]
Box = tuple[float, float, float, float]


def apart(a: Box, b: Box) -> bool:
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def inside(inner: Box, outer: Box) -> bool:
    return outer[0] <= inner[0] and outer[1] <= inner[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def groups_of(workflow: Graph) -> dict[int, str]:
    """The group that each node was saved in, by the node's place in the file."""
    found = {}
    for place, node in enumerate(workflow["nodes"]):
        for group in workflow["groups"]:
            left, top, width, height = group["bounding"]
            if left <= node["pos"][0] < left + width and top <= node["pos"][1] < top + height:
                found[place] = group["title"]
    return found


def write_portrait(path: Path) -> Path:
    """One second, nearly twice as high as wide: what takes the most room below a node's title."""
    first, *rest = (Image.new("RGB", (64, 112), (30 * k, 90, 0)) for k in range(8))
    first.save(path, save_all=True, append_images=rest, duration=125)
    return path


@pytest.mark.parametrize(
    "kind, names",
    [
        ("canvas", list(API_NAMES)),
        ("Nodes 2.0", ["Text to Video Two Passes", "Video to Video", "Video to Video ControlNet"]),
    ],
    ids=["canvas", "Nodes 2.0"],
)
def test_after_a_run_no_node_leaves_its_group_or_lies_on_another(
    visit: Callable[..., dict], comfy_server: ComfyServer, kind: str, names: list[str]
) -> None:
    """Nodes 2.0 have less room to take; there, the templates with the most nodes that show something."""
    clip = write_portrait(comfy_server.base / "input" / "portrait.gif")
    files = [ui_file(name) for name in names]
    result = visit("fit_templates.js", kind, "latent2rgb", clip.name, *files)
    assert result["complaints"] == [] and result["dialogs"] == []
    for file, seen in zip(files, result["seen"], strict=True):
        homes, groups, nodes = groups_of(read(file)), dict(seen["groups"]), seen["nodes"]
        for (one, a), (other, b) in itertools.combinations(nodes, 2):
            assert apart(a, b), f"{seen['name']}: {one} {a} lies on {other} {b}"
        for place, home in homes.items():
            title, box = nodes[place]
            assert inside(box, groups[home]), f"{seen['name']}: {title} {box} leaves {home}"
