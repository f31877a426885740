"""Converting without a server: what is carried over, what is said to be lost, what is left alone."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fast_animatediff.replacements.convert import Conversion, convert
from fast_animatediff.replacements.rules import RULES, SETTINGS
from fast_animatediff.replacements.ui_files import box_of, pair
from fast_animatediff.tests.workflows.graphs import Prompt, read

ROOT = Path(__file__).resolve().parents[2]
PEERS = sorted(Path(__file__).with_name("peers").glob("*.json"))
UI_PEERS = [path for path in PEERS if "api" not in path.stem]


def node(type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": type, "inputs": inputs, "_meta": {"title": type}}


def only(conversion: Conversion, type: str) -> dict[str, Any]:
    (found,) = (entry for entry in conversion.document.values() if entry["class_type"] == type)
    return found["inputs"]


def loaded(**inputs: Any) -> dict[str, Any]:
    return node(
        "ADE_AnimateDiffLoaderGen1",
        model=["1", 0],
        model_name="mm.ckpt",
        beta_schedule="autoselect",
        **inputs,
    )


def with_sampler(**nodes: dict[str, Any]) -> Prompt:
    return {
        "1": node("CheckpointLoaderSimple", ckpt_name="sd15.safetensors"),
        **nodes,
        "99": node(
            "KSampler", model=["9", 0], seed=1, steps=20, cfg=8.0, sampler_name="euler", scheduler="normal"
        ),
    }


def graphs_of(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [workflow, *workflow.get("definitions", {}).get("subgraphs", [])]


@pytest.mark.parametrize("path", PEERS, ids=lambda path: path.stem)
def test_the_given_document_is_not_changed_and_a_converted_one_stays_as_it_is(path: Path) -> None:
    document = read(path)
    before = copy.deepcopy(document)
    converted = convert(document).document
    assert document == before
    again = convert(converted)
    assert again.replaced == [] and again.document == converted


@pytest.mark.parametrize("path", UI_PEERS, ids=lambda path: path.stem)
def test_links_of_a_converted_file_agree_with_its_sockets(path: Path) -> None:
    workflow = convert(read(path)).document
    nodes = {entry["id"]: entry for entry in workflow["nodes"]}
    ids = [link[0] for link in workflow["links"]]
    assert (
        len(ids) == len(set(ids))
        and max(ids) <= workflow["last_link_id"]
        and max(nodes) <= workflow["last_node_id"]
    )
    for id, origin, slot, target, place, _ in workflow["links"]:
        assert nodes[target]["inputs"][place]["link"] == id
        assert id in nodes[origin]["outputs"][slot]["links"]
    assert sum(
        socket["link"] is not None for entry in nodes.values() for socket in entry.get("inputs", [])
    ) == len(ids)


@pytest.mark.parametrize("path", UI_PEERS, ids=lambda path: path.stem)
def test_nodes_that_come_in_addition_lie_on_no_other(path: Path) -> None:
    found = read(path)
    before = {tuple(pair(entry["pos"])) for graph in graphs_of(found) for entry in graph["nodes"]}
    graphs = graphs_of(convert(found).document)
    added = [entry for graph in graphs for entry in graph["nodes"] if tuple(pair(entry["pos"])) not in before]
    assert added
    for nodes in (graph["nodes"] for graph in graphs):
        for entry in (entry for entry in nodes if entry in added):
            left, top, right, bottom = box_of(entry)
            for other in (box_of(other) for other in nodes if other is not entry):
                assert left >= other[2] or other[0] >= right or top >= other[3] or other[1] >= bottom


def test_other_packs_nodes_stay_and_stay_connected() -> None:
    prompt = with_sampler(**{"5": loaded(), "9": node("FreeU (somebody's)", model=["5", 0], strength=0.3)})
    conversion = convert(prompt)
    (apply,) = (
        id for id, entry in conversion.document.items() if entry["class_type"] == "FAD_ApplyMotionModule"
    )
    assert conversion.document["9"] == node("FreeU (somebody's)", model=[apply, 0], strength=0.3)
    assert conversion.notes == [] and conversion.left == []


def test_a_node_that_nothing_replaces_stays_and_is_named() -> None:
    prompt = {
        "1": node("ACN_SparseCtrlLoaderAdvanced", sparsectrl_name="v3"),
        "2": node("ControlNetLoaderAdvanced", control_net_name="a"),
    }
    conversion = convert(prompt)
    assert conversion.left == [("1", "ACN_SparseCtrlLoaderAdvanced")]
    assert conversion.document["1"] == prompt["1"]


@pytest.mark.parametrize(
    "name, kind",
    [
        ("ad_keyframes", "ADE_AnimateDiffKeyframe"),
        ("ad_settings", "ADE_AnimateDiffSettings"),
        ("per_block", "ADE_PerBlock_SD15_LowLevel"),
    ],
)
def test_what_a_loader_loses_is_said_and_goes(name: str, kind: str) -> None:
    conversion = convert(with_sampler(**{"5": node(kind, x=1), "9": loaded(**{name: ["5", 0]})}))
    (note,) = conversion.notes
    assert name in note.text and note.node == "9"
    assert conversion.left == [] and kind not in json.dumps(conversion.document)


def test_values_out_of_range_are_moved_to_the_nearest_with_a_note() -> None:
    scale = node("ADE_MultivalDynamic", float_val=2.6)
    conversion = convert(with_sampler(**{"5": scale, "9": loaded(scale_multival=["5", 0])}))
    assert only(conversion, "FAD_ApplyMotionModule")["motion_scale"] == 2.0
    assert ["2.6" in note.text and "2" in note.text for note in conversion.notes] == [True]


@pytest.mark.parametrize(
    "theirs, ours, lost",
    [
        ("autoselect", "auto", 0),
        ("lcm", "lcm 50 linear (AnimateDiff-Evolved)", 0),
        ("lcm[100_ots]", "auto", 1),
        ("use existing", "linear (SD1.5)", 1),
    ],
)
def test_beta_schedules_keep_their_meaning_or_are_named(theirs: str, ours: str, lost: int) -> None:
    loader = loaded()
    loader["inputs"]["beta_schedule"] = theirs
    conversion = convert(with_sampler(**{"9": loader}))
    assert only(conversion, "FAD_ApplyMotionModule")["beta_schedule"] == ours
    assert len(conversion.notes) == lost and all(theirs in note.text for note in conversion.notes)


def test_a_mask_on_the_effect_says_where_the_motion_acts_and_one_on_the_scale_is_lost() -> None:
    value = node("ADE_MultivalDynamic", float_val=0.8, mask_optional=["7", 0])
    effect = convert(
        with_sampler(**{"5": value, "7": node("LoadImageMask"), "9": loaded(effect_multival=["5", 0])})
    )
    assert only(effect, "FAD_ApplyMotionModule").items() >= {"strength": 0.8, "mask": ["7", 0]}.items()
    scale = convert(
        with_sampler(**{"5": value, "7": node("LoadImageMask"), "9": loaded(scale_multival=["5", 0])})
    )
    assert effect.notes == [] and len(scale.notes) == 1


def test_controlnet_keeps_its_numbers_and_says_what_core_has_not() -> None:
    names = {
        "positive": ["7", 0],
        "negative": ["7", 1],
        "image": ["8", 0],
        "strength": 0.8,
        "start_percent": 0.1,
        "end_percent": 0.7,
    }
    prompt = {
        "1": node("ControlNetLoaderAdvanced", control_net_name="canny.safetensors"),
        "2": node("ScaledSoftControlNetWeights", base_multiplier=0.8),
        "3": node("ACN_AdvancedControlNetApply_v2", control_net=["1", 0], weights_override=["2", 0], **names),
        "4": node("KSampler", positive=["3", 0], negative=["3", 1]),
    }
    conversion = convert(prompt)
    inputs = only(conversion, "ControlNetApplyAdvanced")
    assert inputs.items() >= names.items()
    assert conversion.document[inputs["control_net"][0]]["inputs"] == {
        "control_net_name": "canny.safetensors"
    }
    assert [note.text for note in conversion.notes] == ["not carried over: weights_override."]
    assert conversion.left == []


def test_frame_interpolation_becomes_two_nodes_and_names_the_weights() -> None:
    prompt = {
        "1": node(
            "RIFE VFI", ckpt_name="rife47.pth", frames=["7", 0], multiplier=3, ensemble=True, scale_factor=1.0
        ),
        "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
    }
    conversion = convert(prompt)
    inputs = only(conversion, "FrameInterpolate")
    assert (inputs["multiplier"], inputs["images"]) == (3, ["7", 0])
    assert only(conversion, "FrameInterpolationModelLoader") == {"model_name": "rife47.pth"}
    assert ["rife47.pth" in note.text for note in conversion.notes] == [True]


def test_nodes_that_lead_to_each_other_and_links_from_nowhere_do_not_stop_it() -> None:
    circle = [
        {
            "id": 1,
            "type": "GetNode",
            "widgets_values": ["x"],
            "outputs": [{"name": "*", "type": "*", "links": [1, 2]}],
        },
        {
            "id": 2,
            "type": "SetNode",
            "widgets_values": ["x"],
            "inputs": [{"name": "*", "type": "*", "link": 1}],
        },
        {
            "id": 3,
            "type": "ADE_AnimateDiffLoaderGen1",
            "widgets_values": ["mm.ckpt", "autoselect"],
            "inputs": [
                {"name": "context_options", "type": "CONTEXT_OPTIONS", "link": 2},
                {"name": "model", "type": "MODEL", "link": 3},
            ],
        },
    ]
    links = [[1, 1, 0, 2, 0, "*"], [2, 1, 0, 3, 0, "*"], [3, 77, 0, 3, 1, "MODEL"]]
    conversion = convert({"nodes": circle, "links": links, "version": 0.4})
    kinds = [entry["type"] for entry in conversion.document["nodes"]]
    assert "FAD_ApplyMotionModule" in kinds and "FAD_ContextWindows" not in kinds


@pytest.mark.parametrize("document", [{}, {"a": 1}, {"nodes": 3}, {"1": {"inputs": {}}}])
def test_what_is_no_workflow_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="neither"):
        convert(document)


def test_at_least_85_percent_of_the_uses_in_public_workflows_are_replaced() -> None:
    """uses.json: in how many of 193 public workflows each node of these packs stands."""
    uses = read(Path(__file__).with_name("uses.json"))
    carried = (set(RULES) | SETTINGS) - {
        "VHS_LoadVideoPath",
        "VHS_LoadImagesPath",
    }  # whose files have to be copied by hand
    assert sum(number for name, number in uses.items() if name in carried) >= 0.85 * sum(uses.values())


def test_the_command_writes_beside_the_file_and_leaves_what_is_there(tmp_path: Path) -> None:
    file = tmp_path / "theirs.json"
    file.write_text(
        json.dumps({"1": node("VHS_VideoCombine", images=["7", 0], frame_rate=8, format="video/h265-mp4")})
    )
    command = [sys.executable, ROOT / "dev.py", "convert", file]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (
        done.returncode == 0
        and "1 x VHS_VideoCombine" in done.stdout
        and "note: VHS_VideoCombine (node 1)" in done.stdout
    )
    written = tmp_path / "theirs converted.json"
    assert only(convert(read(file)), "FAD_ExportVideo") == read(written)["1"]["inputs"]
    assert subprocess.run(command, capture_output=True).returncode == 1
