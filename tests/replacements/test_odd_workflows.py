"""Files of odd forms, values of other kinds: what other packs wrote stays as it is, and what is lost is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_convert import loaded, node, only, with_sampler

from fast_animatediff.replacements.convert import convert
from fast_animatediff.replacements.rules import is_peer
from fast_animatediff.tests.workflows.graphs import read

PEERS = Path(__file__).with_name("peers")


def ui_node(id: int, type: str, inputs: list[dict], outputs: list[dict], **more: Any) -> dict[str, Any]:
    return {"id": id, "type": type, "pos": [0, 0], "mode": 0, "inputs": inputs, "outputs": outputs, **more}


def test_links_and_inputs_of_other_packs_stay_as_they_are_written() -> None:
    """An object link may lead through the page's reroutes; a node may have two inputs of one name."""
    link = {
        "id": 7,
        "origin_id": 1,
        "origin_slot": 0,
        "target_id": 2,
        "target_slot": 1,
        "type": "*",
        "parentId": 3,
    }
    second = {**link, "id": 8, "target_slot": 0, "origin_slot": 1}
    sockets = [{"name": "any", "type": "A", "link": 8}, {"name": "any", "type": "B", "link": 7}]
    outputs = [{"name": "o", "type": "*", "links": [7]}, {"name": "p", "type": "*", "links": [8]}]
    workflow = {
        "nodes": [
            ui_node(1, "Theirs", [], outputs),
            ui_node(2, "Theirs", sockets, []),
            ui_node(3, "ControlNetLoaderAdvanced", [], [], widgets_values=["a"]),
        ],
        "links": [link, second],
        "last_node_id": 40,
        "last_link_id": 8,
    }
    conversion = convert(workflow)
    assert conversion.document["links"] == [link, second]
    assert conversion.document["nodes"][:2] == workflow["nodes"][:2]
    (made,) = conversion.document["nodes"][2:]
    assert made["id"] == 41  # a number that no node had, not even one within a subgraph


def test_nodes_in_group_nodes_are_named_and_a_subgraph_without_peers_stays_as_it_is() -> None:
    subgraph = {**peers_in_subgraph(), "nodes": [{"id": 50, "type": "Theirs"}], "links": [], "outputs": []}
    groups = {"my group": {"nodes": [{"type": "ADE_LoadAnimateDiffModel", "index": 0}]}}
    workflow = {
        "nodes": [ui_node(1, "ControlNetLoaderAdvanced", [], [])],
        "definitions": {"subgraphs": [subgraph]},
        "extra": {"groupNodes": groups},
    }
    conversion = convert(workflow)
    (note,) = map(str, conversion.notes)
    assert "my group" in note and "group node" in note
    assert conversion.document["definitions"] == workflow["definitions"]
    assert conversion.document["nodes"][0]["id"] == 51


def peers_in_subgraph() -> dict[str, Any]:
    (subgraph,) = read(PEERS / "inside a subgraph.json")["definitions"]["subgraphs"]
    return subgraph


def test_nodes_in_subgraphs_are_replaced_and_their_links_agree_at_both_ends() -> None:
    """Also with what the subgraph gets and gives; numbers of nodes are used once in the file."""
    before = peers_in_subgraph()
    end = {"id": 90, "origin_id": 4, "origin_slot": 0, "target_id": -20, "target_slot": 0, "type": "IMAGE"}
    lost = {**end, "id": 91, "origin_slot": 3, "target_slot": 1}
    before["links"] += [end, lost]
    before["outputs"] = [
        {"name": "frames", "type": "IMAGE", "linkIds": [90]},
        {"name": "info", "type": "VHS_VIDEOINFO", "linkIds": [91]},
    ]
    main = ui_node(95, "ControlNetLoaderAdvanced", [], [], widgets_values=["a"])
    document = {"nodes": [main], "last_node_id": 95, "definitions": {"subgraphs": [before]}}
    conversion = convert(document)
    (subgraph,) = conversion.document["definitions"]["subgraphs"]
    nodes = {entry["id"]: entry for entry in subgraph["nodes"]}
    ids = [*nodes, *(entry["id"] for entry in conversion.document["nodes"])]
    assert not any(is_peer(entry["type"]) for entry in nodes.values())
    assert len(set(ids)) == len(ids) and conversion.document["last_node_id"] == max(ids)
    for link in subgraph["links"]:
        if link["origin_id"] == -10:
            assert link["id"] in subgraph["inputs"][link["origin_slot"]]["linkIds"]
        else:
            assert link["id"] in nodes[link["origin_id"]]["outputs"][link["origin_slot"]]["links"]
        if link["target_id"] == -20:
            assert link["id"] in subgraph["outputs"][link["target_slot"]]["linkIds"]
        else:
            assert nodes[link["target_id"]]["inputs"][link["target_slot"]]["link"] == link["id"]
    assert [len(slot["linkIds"]) for slot in subgraph["inputs"]] == [2, 1, 1, 1, 1]
    assert [len(slot["linkIds"]) for slot in subgraph["outputs"]] == [1, 0]
    (note,) = map(str, conversion.notes)
    assert "info of Outputs of subgraph New Subgraph" in note


def test_a_written_file_is_found_under_the_id_that_its_client_knows() -> None:
    prompt = {
        "1": node("Theirs"),
        "10": node("VHS_VideoCombine", images=["1", 0], frame_rate=8, format="image/gif"),
    }
    assert convert(prompt).document["10"]["class_type"] == "FAD_ExportVideo"


@pytest.mark.parametrize("kind", ["VHS_LoadVideoFFmpeg", "VHS_LoadVideoFFmpegPath"])
def test_masks_of_a_video_stay_masks(kind: str) -> None:
    video = node(
        kind, video="input/a.webm", force_rate=8, custom_width=300, custom_height=200, start_time=1.5
    )
    conversion = convert(
        {"1": video, "2": node("MaskPreview", mask=["1", 1]), "3": node("Theirs", audio=["1", 2])}
    )
    (loaded,) = (
        id for id, entry in conversion.document.items() if entry["class_type"] == "FAD_LoadVideoFrames"
    )
    assert conversion.document["2"]["inputs"]["mask"] == [loaded, 4]
    assert conversion.document["3"]["inputs"]["audio"] == [loaded, 3]
    assert conversion.document[loaded]["inputs"]["start_seconds"] == 1.5
    assert ["the mask has the size of the video" in note.text for note in conversion.notes] == [True]


@pytest.mark.parametrize(
    "format, name, value",
    [
        ("video/nvenc_h264-mp4", "bitrate", 10),
        ("video/gifski", "quality", 60),
        ("video/ffmpeg-gif", "dither", "none"),
    ],
)
def test_settings_of_a_format_that_export_video_has_not_are_named(format: str, name: str, value: Any) -> None:
    combine = node("VHS_VideoCombine", images=["7", 0], frame_rate=8, format=format, **{name: value})
    assert [str(value) in note.text for note in convert({"1": combine}).notes] == [True]


@pytest.mark.parametrize("numbers", [None, [], [200, None], [None, None], {"0": None, "1": 90}])
@pytest.mark.parametrize("what", ["pos", "size"])
def test_a_node_whose_place_or_size_is_damaged_lets_the_others_be_replaced(what: str, numbers: Any) -> None:
    damaged = {"pos": [0, 0], "size": [200, 90], what: numbers}
    nodes = [ui_node(1, "Theirs", [], []) | damaged, ui_node(2, "ControlNetLoaderAdvanced", [], [])]
    conversion = convert({"nodes": nodes, "links": []})
    assert [entry["type"] for entry in conversion.document["nodes"]] == ["Theirs", "ControlNetLoader"]
    assert conversion.document["nodes"][0][what] == numbers


def test_a_linked_crf_stays_linked() -> None:
    prompt = {
        "2": node("INTConstant", value=20),
        "10": node("VHS_VideoCombine", format="video/h264-mp4", crf=["2", 0]),
    }
    conversion = convert(prompt)
    assert only(conversion, "FAD_ExportVideo")["crf"] == ["2", 0] and conversion.notes == []


@pytest.mark.parametrize(
    "theirs, ours, lost",
    [("0.8 ", 0.8, []), ("much", 1.0, ["strength is 'much', which is no number: 1 was set."])],
)
def test_a_number_may_be_a_text_as_for_the_host_and_what_is_none_is_named(
    theirs: str, ours: float, lost: list[str]
) -> None:
    lora = node("ADE_AnimateDiffLoRALoader", name="pan.safetensors", strength=theirs)
    conversion = convert(with_sampler(**{"5": lora, "9": loaded(motion_lora=["5", 0])}))
    assert only(conversion, "FAD_MotionLora") == {"motion_lora": "pan.safetensors", "strength": ours}
    assert [note.text for note in conversion.notes] == lost


def test_prompts_are_split_at_neg_with_their_backslashes() -> None:
    text = '"0": "a \\(cat\\) --neg \\"blurry\\"",\n"12": "a dog"'
    fizz = node("BatchPromptSchedule", text=text, max_frames=24, clip=["1", 1], start_frame=4, end_frame=24)
    users = {"8": node("KSampler", positive=["7", 0], negative=["7", 1])}
    conversion = convert(with_sampler(**{"7": fizz, **users}))
    schedules = [e["inputs"]["schedule"] for e in conversion.document.values() if "schedule" in e["inputs"]]
    assert schedules == ['"0": "a \\(cat\\)",\n"12": "a dog"', '"0": "\\"blurry\\"",\n"12": ""']
    assert ["start_frame (4)" in note.text for note in conversion.notes] == [True]


def test_a_module_that_does_more_than_move_is_named() -> None:
    module = node("ADE_LoadAnimateDiffModel", model_name="pia.ckpt")
    applied = node("ADE_ApplyAnimateDiffModelWithPIA", motion_model=["3", 0], image=["2", 0])
    evolved = node("ADE_UseEvolvedSampling", model=["1", 0], m_models=["5", 0], beta_schedule="autoselect")
    conversion = convert(with_sampler(**{"3": module, "5": applied, "9": evolved}))
    assert ["beside applying" in note.text for note in conversion.notes] == [True]


@pytest.mark.parametrize(
    "document", [{"nodes": [{}]}, {"1": node("ControlNetLoaderAdvanced") | {"inputs": 3}}]
)
def test_a_damaged_workflow_is_refused_in_a_sentence(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="It is not as ComfyUI writes it"):
        convert(document)
