from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fast_animatediff.fleet.manifest import BadManifest, check, folder_items, read_manifest

TURBO = "fal-ai/fast-animatediff/turbo/text-to-video"
VIDEO = "fal-ai/fast-animatediff/video-to-video"


def lines(*entries: Any) -> list[tuple[int, bytes]]:
    return [(number, json.dumps(entry).encode()) for number, entry in enumerate(entries, 1)]


def clip(name: str | None = None, **given: Any) -> dict[str, Any]:
    entry = {"endpoint": TURBO, "input": {"prompt": "A red circle, moving!"} | given}
    return entry | ({"name": name} if name else {})


def test_a_line_without_a_name_gets_one_that_stays_when_lines_are_added_before_it() -> None:
    [alone] = check(lines(clip()))
    *_, last = check(lines(clip("first"), clip(seed=2), clip()))
    assert alone.name == last.name and alone.name.startswith("a-red-circle-moving-")
    assert alone.input == last.input


def test_equal_lines_are_clips_of_their_own_with_seeds_that_stay() -> None:
    one, two = check(lines(clip(), clip()))
    assert two.name == f"{one.name}-2"
    assert one.input["seed"] != two.input["seed"]
    assert [item.input["seed"] for item in check(lines(clip(), clip()))] == [
        one.input["seed"],
        two.input["seed"],
    ]
    assert check(lines(clip(seed=7)))[0].input["seed"] == 7


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "this is not JSON: Expecting property name enclosed in double quotes at column 2"),
        (b"\xff{}", "this is not UTF-8: invalid start byte at byte 0"),
        (b"[]", "this is not an object"),
        (b"{}", "Application None not found. There are: fal-ai/fast-animatediff/video-to-video, "),
        (b'{"endpoint": "%s"}' % TURBO.encode(), "input: Input should be a valid dictionary"),
        (
            b'{"endpoint": "%s", "inputs": {}}' % TURBO.encode(),
            "inputs: not a field; there are endpoint, input, name",
        ),
        (json.dumps(clip(fps=99)).encode(), "fps: Input should be less than or equal to 16"),
        (
            json.dumps(clip(num_frame=8)).encode(),
            f"num_frame: not a field of {TURBO}; did you mean num_frames?",
        ),
        (json.dumps(clip(prompt="\ud800")).encode(), "prompt: Input should be a valid unicode string"),
        *[
            (json.dumps(clip(name)).encode(), "name: ")
            for name in ("../up", "a/b", ".hidden", "CON", "nul.x", "x" * 101, "a\n", "\u52a8" * 80)
        ],
    ],
)
def test_a_bad_line_is_named_with_its_number_and_the_reason(line: bytes, reason: str) -> None:
    with pytest.raises(BadManifest) as caught:
        check([(1, json.dumps(clip()).encode()), (7, line)])
    [(number, said)] = caught.value.problems
    assert number == 7 and said.startswith(reason)


def test_a_name_may_begin_as_one_that_windows_reserves() -> None:
    names = ["continue", "nullify 2", "com1-b"]
    assert [item.name for item in check(lines(*map(clip, names)))] == names


def test_names_that_are_one_file_on_some_disks_are_refused() -> None:
    with pytest.raises(BadManifest, match="line 2: name: 'clip' is taken by line 1"):
        check(lines(clip("Clip"), clip("clip")))


def test_a_file_may_have_empty_lines_a_mark_and_no_end(tmp_path: Path) -> None:
    file = tmp_path / "requests.jsonl"
    file.write_bytes(
        b"\xef\xbb\xbf" + json.dumps(clip("one")).encode() + b"\r\n\n\n" + json.dumps(clip("two")).encode()
    )
    assert [item.name for item in read_manifest(file)] == ["one", "two"]
    file.write_bytes(b"\n")
    with pytest.raises(BadManifest, match="The manifest is empty"):
        read_manifest(file)


def test_a_folder_of_videos_is_checked_as_a_manifest_is(tmp_path: Path) -> None:
    with pytest.raises(BadManifest, match="There is no video in"):
        folder_items(tmp_path, VIDEO, {"prompt": "x"})
    for name in ("clip.mp4", "clip.MOV", "other.gif", "notes.txt", "._clip.mp4"):
        (tmp_path / name).write_bytes(b"")
    items = folder_items(tmp_path, VIDEO, {"prompt": "x"})
    assert [item.name for item in items] == ["clip-MOV", "clip-mp4", "other"]
    with pytest.raises(BadManifest, match="strength: Input should be less than or equal to 1"):
        folder_items(tmp_path, VIDEO, {"prompt": "x", "strength": 2})
    with pytest.raises(BadManifest, match="takes no video"):
        folder_items(tmp_path, TURBO, {"prompt": "x"})


def test_two_videos_never_get_one_name_and_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    for name in ("x.mp4", "x.gif", "x-mp4.mov"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(BadManifest, match="name: 'x-mp4' would be that of two results; rename"):
        folder_items(tmp_path, VIDEO, {"prompt": "x"})
    (tmp_path / "x-mp4.mov").rename(tmp_path / os.fsdecode(b"caf\xe9.mp4"))
    with pytest.raises(BadManifest, match="is not UTF-8"):
        folder_items(tmp_path, VIDEO, {"prompt": "x"})


def test_ten_thousand_lines_are_checked_in_seconds() -> None:
    assert len(check(lines(*[clip() for _ in range(10_000)]))) == 10_000
