"""Shared workflow files rely on node ids and on the order of inputs: the golden file holds both.

After a wanted change: `python3 dev.py test tests/nodes --update-golden`, and read the difference before committing it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from comfy.samplers import SAMPLER_NAMES, SCHEDULER_NAMES
from fast_animatediff.nodes import NODES

GOLDEN = Path(__file__).with_name("schema.json")
DOCS = Path(__file__).resolve().parents[2] / "nodes" / "web" / "docs"
# Lists that grow with the host or with the user's files; a workflow keeps the name that was chosen.
HOST_LISTS = {tuple(SAMPLER_NAMES): "samplers of the host", tuple(SCHEDULER_NAMES): "schedulers of the host"}
FILE_INPUTS = {"motion_module", "motion_lora", "file"}


def without_host_lists(name: str, options: list[str]) -> list[str]:
    if name in FILE_INPUTS:
        return ["files of the user"]
    for names, description in HOST_LISTS.items():
        if set(names) <= set(options):
            return [option for option in options if option not in names] + [description]
    return options


def described(node: type) -> dict:
    """The parts of a node's schema that saved workflows and API prompts depend on, as plain data."""
    info = (
        node.GET_NODE_INFO_V1()
        if hasattr(node, "GET_NODE_INFO_V1")
        else vars(node.GET_SCHEMA().get_v1_info(node))
    )
    inputs = {}
    for section, entries in info["input"].items():
        for name, (kind, *details) in entries.items():
            settings = dict(details[0]) if details else {}
            settings.pop("tooltip", None)
            if isinstance(kind, list):
                kind = without_host_lists(name, kind)
            if "options" in settings:
                settings["options"] = without_host_lists(name, settings["options"])
            if name in FILE_INPUTS:
                settings.pop("default", None)
            inputs[name] = [section, kind, settings]
    return {
        "title": info["display_name"],
        "category": info["category"],
        "inputs": inputs,
        "outputs": list(map(list, zip(info["output"], info["output_name"], strict=True))),
        "is_output_node": info["output_node"],
    }


def test_ids_and_the_order_of_inputs_are_those_of_the_golden_file(request):
    found = {node.GET_SCHEMA().node_id: described(node) for node in NODES}
    text = json.dumps(found, indent=1) + "\n"
    if request.config.getoption("--update-golden"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text(), "a schema changed; see the top of this file"


def test_the_pack_has_the_nodes_of_its_design():
    assert {node.GET_SCHEMA().node_id for node in NODES} == {
        "FAD_LoadMotionModule",
        "FAD_MotionLora",
        "FAD_ApplyMotionModule",
        "FAD_ContextWindows",
        "FAD_EmptyVideoLatent",
        "FAD_Sampler",
        "FAD_PromptSchedule",
        "FAD_ValueSchedule",
        "FAD_ControlNetStrength",
        "FAD_LoadVideoFrames",
        "FAD_SampleVideoFrames",
        "FAD_ExportVideo",
        "FAD_DecodeAndExport",
        "FAD_LoadVideoLatents",
    }


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_every_node_explains_itself_and_each_of_its_sockets(node):
    schema = node.GET_SCHEMA()
    assert schema.description and schema.search_aliases and schema.category.startswith("Fast AnimateDiff/")
    for socket in [*schema.inputs, *schema.outputs]:
        assert socket.tooltip and socket.tooltip.endswith("."), f"{schema.node_id}.{socket.id}"


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_every_node_has_a_help_page_that_names_its_inputs(node):
    schema = node.GET_SCHEMA()
    page = (DOCS / f"{schema.node_id}.md").read_text(encoding="utf-8")
    assert len(page.splitlines()) >= 15
    for socket in schema.inputs:
        assert f"`{socket.id}`" in page or f"**{socket.id}**" in page, f"{schema.node_id}.{socket.id}"
