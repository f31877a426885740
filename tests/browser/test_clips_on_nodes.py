"""What the page shows on the nodes that load and write clips: this file and no other, in both kinds of nodes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fast_animatediff.dev_server.server import ComfyServer
from fast_animatediff.tests.browser.coloured_clips import Colour, write_coloured

pytestmark = pytest.mark.browser
Visit = Callable[..., dict]

PICTURES = (".gif", ".webp", ".png", ".apng")
IN_BROWSERS = (*PICTURES, ".mp4", ".webm")
EXPORT = [
    ["EmptyImage", {"width": 64, "height": 64, "batch_size": 8}],
    ["FAD_ExportVideo", {}, {"images": [0, 0]}],
]
NAME = "%date:yyyy%/%FAD_EmptyVideoLatent.num_frames%frames"  # a folder, and a value of another node
DECODE_AND_EXPORT = [
    ["CheckpointLoaderSimple", {}],
    ["FAD_EmptyVideoLatent", {"video_size": "custom", "width": 64, "height": 64, "num_frames": 4}],
    ["FAD_DecodeAndExport", {"filename_prefix": NAME}, {"samples": [1, 0], "vae": [0, 2]}],
]
# Each format after each other one.
ALL_ORDERS = "mp4 gif mp4 webm mp4 webp gif webm gif webp webm webp mp4".split()


def near(colour: list[int], wanted: Colour) -> bool:
    return all(abs(level - target) < 24 for level, target in zip(colour, wanted, strict=True))


@pytest.mark.parametrize(
    "graph, title, formats",
    [
        pytest.param(EXPORT, "Export Video", ALL_ORDERS, marks=pytest.mark.slow),
        pytest.param(EXPORT, "Export Video", ["gif", "mp4", "gif"]),
        pytest.param(DECODE_AND_EXPORT, "Decode and Export Video", ["gif", "mp4"], marks=pytest.mark.slow),
    ],
)
def test_each_run_shows_its_own_file_playing_muted_in_a_loop(
    visit: Visit, graph: list, title: str, formats: list[str]
) -> None:
    result = visit("show_results.js", json.dumps(graph), title, *formats)
    assert result["complaints"] == [] and result["dialogs"] == []
    runs = result["runs"]
    assert [run["format"] for run in runs] == 2 * formats
    for number, run in enumerate(runs):
        (shown,) = run["shown"]  # a gif once, without the png beside it
        assert shown["file"] == run["file"]
        assert graph is EXPORT or run["file"].startswith("4frames_0")
        if graph is EXPORT:  # anew each time; the host keeps what it has made of the same inputs
            assert near(shown["colour"], (0, 0, number * 16 % 256))
        if run["format"] in ("mp4", "webm"):
            assert shown["tag"] == "video" and shown["muted"] and shown["loop"] and not shown["paused"]
    if formats[-1] == "mp4":
        (clicked,) = result["clicked"]
        assert not clicked["muted"] and not clicked["paused"]
    (back,) = result["back"]
    assert result["elsewhere"] == [] and back["file"] == runs[-1]["file"]


def coloured(number: int) -> Colour:
    return (number * 80 % 256, number * 144 % 256, 200 - number * 16)


@pytest.mark.parametrize(
    "endings, dropped",
    [
        (["mp4", "gif", "avi"], ["webp", "mov"]),
        pytest.param(
            ["mov", "mp4", "mkv", "webp", "webm", "apng", "ts", "png"],
            ["gif", "png"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_chosen_clip_is_shown_however_it_was_chosen(
    visit: Visit, comfy_server: ComfyServer, tmp_path: Path, endings: list[str], dropped: list[str]
) -> None:
    colours = {}
    for number, ending in enumerate(endings):
        colours[f"of {len(endings)}.{ending}"] = coloured(number)
    listed = list(colours)
    for name, colour in colours.items():
        write_coloured(comfy_server.base / "input" / name, colour)
    files: dict[str, list[str]] = {}
    for kind in ("canvas", "Nodes 2.0"):
        for number, ending in enumerate(dropped, len(endings)):
            name = f"my {kind} (of {len(endings)}).{ending}"
            colours[name] = coloured(number)
            files.setdefault(kind, []).append(str(write_coloured(tmp_path / name, colours[name])))
    result = visit("choose_clips.js", "FAD_LoadVideoFrames", json.dumps(listed), json.dumps(files))
    assert result["complaints"] == [] and result["dialogs"] == [] and result["pages"] == 1
    # An mp4 in any case: the clip itself, or what the server made of a mov for the browser.
    assert result["saved"] == 2 * [[f"{Path(listed[0]).stem}.mp4", "ftyp"]]
    assert result["unanswered"] == ["", ""]  # not the line of the clip before
    states = result["states"]
    assert result["unfolded"] == [False, False]  # it plays on
    for shown, name in zip(result["overwritten"], 2 * (listed[1], listed[0]), strict=True):
        assert near(shown["colour"], colours[name]), name
    assert len(states) == 2 * (len(listed) + 1 + 2 + 2 * len(dropped) + 3 + 1)
    for state in states:
        (shown,) = state["shown"]
        assert state["nodes"] == ["FAD_LoadVideoFrames"]
        assert shown["file"] == state["file"] and near(shown["colour"], colours[state["file"]])
        suffix = Path(state["file"]).suffix
        assert shown["tag"] == ("img" if suffix in PICTURES else "video")
        assert shown["route"].endswith("/view" if suffix in IN_BROWSERS else "/clip/preview")
        rate = "" if suffix == ".ts" else ", 25 fps"  # which such a file does not say
        assert state["line"] == f"1.0 s, 96x64{rate} \u2192 8 frames at 8 fps, 624x416"
    for state in states:
        if state["way"] == "button":
            assert {f".{ending}" for ending in (*endings, *dropped)} <= set(state["accept"].split(","))


LOAD_AND_EXPORT = [
    ["FAD_LoadVideoFrames", {"first_n_seconds": 1}],
    ["FAD_ExportVideo", {"filename_prefix": "again"}, {"images": [0, 0]}],
]


def test_all_of_what_is_wrong_with_a_file_can_be_read_on_its_node(
    visit: Visit, comfy_server: ComfyServer
) -> None:
    (comfy_server.base / "input" / "no video.mp4").write_text("no video" * 100)
    result = visit("read_messages.js", "no video.mp4")
    for texts in result["read"].values():
        assert len(texts) == 2 and all("Use one of these: mp4" in text for text in texts)


def test_new_files_under_names_of_deleted_ones_are_shown(
    visit: Visit, comfy_server: ComfyServer, tmp_path: Path
) -> None:
    colours = [(200, 0, 0), (0, 0, 200)]
    for number in range(2):
        (tmp_path / f"{number}").mkdir()
    clips = [write_coloured(tmp_path / f"{number}" / "again.mp4", colours[number]) for number in range(2)]
    result = visit("reuse_names.js", json.dumps(LOAD_AND_EXPORT), comfy_server.base, *clips)
    assert result["complaints"] == [] and result["dialogs"] == []
    for seen, colour in zip(result["seen"], 2 * colours, strict=True):
        assert seen["file"] == "again_00001_.mp4"
        assert [near(shown["colour"], colour) for shown in seen["shown"]] == [True, True], seen


SAMPLING = [
    ["CheckpointLoaderSimple", {}],
    ["FAD_EmptyVideoLatent", {"video_size": "custom", "width": 64, "height": 64, "num_frames": 8}],
    ["CLIPTextEncode", {"text": "a red circle"}, {"clip": [0, 1]}],
    [
        "FAD_Sampler",
        {"steps": 30, "cfg": 1, "control_after_generate": "fixed"},
        {"model": [0, 0], "positive": [2, 0], "negative": [2, 0], "latent_image": [1, 0]},
    ],
    ["FAD_DecodeAndExport", {}, {"samples": [3, 0], "vae": [0, 2]}],
]


@pytest.mark.slow
def test_a_run_shows_nothing_on_the_nodes_of_another_tab(visit: Visit) -> None:
    result = visit("other_tab.js", json.dumps(SAMPLING), "latent2rgb")
    assert result["complaints"] == [] and result["dialogs"] == []
    for seen in result["seen"]:
        assert (seen["other"], seen["own"]) == ([], ["FAD_DecodeAndExport"]), seen["kind"]
        assert seen["copy"][1] == ["FAD_DecodeAndExport"], seen
