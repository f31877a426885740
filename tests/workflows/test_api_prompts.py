"""The API prompts are the UI files, converted. After a change of a UI file, write them anew with

UPDATE_API_PROMPTS=1 python3 dev.py test tests/workflows/test_api_prompts.py
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from fast_animatediff.dev_server.server import ComfyServer
from fast_animatediff.tests.workflows.graphs import API_NAMES, api_file, read, ui_file

pytestmark = pytest.mark.server
names = pytest.mark.parametrize("name", API_NAMES)
WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


@pytest.fixture(scope="module")
def object_info(comfy_server: ComfyServer) -> dict[str, Any]:
    return comfy_server.client.get("/object_info")


def convert(name: str, object_info: dict[str, Any]) -> dict[str, Any]:
    from comfy_cli.workflow_to_api import convert_ui_to_api

    return convert_ui_to_api(read(ui_file(name)), object_info)


@names
def test_the_api_prompt_is_the_ui_file_converted(name: str, object_info: dict[str, Any]) -> None:
    converted = convert(name, object_info)
    if os.environ.get("UPDATE_API_PROMPTS"):
        text = json.dumps(converted, indent=2, ensure_ascii=False) + "\n"
        api_file(name).write_text(text, encoding="utf-8")
    assert read(api_file(name)) == converted


@names
def test_every_node_is_known_to_the_server_and_every_widget_has_a_value_it_allows(
    name: str, object_info: dict[str, Any]
) -> None:
    for node in read(ui_file(name))["nodes"]:
        if node["type"] == "MarkdownNote":  # the page's own
            continue
        widgets = widgets_of(object_info[node["type"]])
        values = node.get("widgets_values", [])
        assert len(values) == len(widgets), node["type"]
        for (widget, kind, options), value in zip(widgets, values, strict=True):
            where = f"{node['type']}.{widget} = {value!r}"
            if kind == "COMBO":
                assert value in options["options"], where
            elif kind in ("INT", "FLOAT"):
                assert options["min"] <= value <= options["max"], where
            else:
                assert isinstance(value, {"STRING": str, "BOOLEAN": bool}[kind]), where


def widgets_of(info: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Name, type and options of a node's widgets in the order of widgets_values, with those that the page adds."""
    found = []
    described = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    for name in names_in_order(info["input_order"]):
        kind, *rest = described[name]
        options = dict(rest[0]) if rest else {}
        if isinstance(kind, list):
            kind, options = "COMBO", {**options, "options": kind}
        if kind not in WIDGET_TYPES or options.get("forceInput"):
            continue
        found.append((name, kind, options))
        if options.get("control_after_generate"):
            choices = ["fixed", "increment", "decrement", "randomize"]
            found.append(("control_after_generate", "COMBO", {"options": choices}))
    return found


def names_in_order(order: dict[str, list[str]]) -> list[str]:
    return [name for part in ("required", "optional") for name in order.get(part, [])]
