"""The workflow is where the page looks for it when a file is dropped, read here the way the page reads it."""

from __future__ import annotations

import json
import struct
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from PIL import Image

from fast_animatediff.video import FORMATS, Export, export_video, front_end_tags

PAGE_READS = {".mp4": 64 * 2**20, ".webm": 2 * 2**20}  # bytes from the beginning of the file

WORKFLOW = {
    "nodes": [
        {
            "id": 1,
            "widgets_values": ['a "quoted" {cat|dog} ;=#\\ \n', "\u00e9\u4e16\U0001f600", 0.1, None, True],
        },
        {"id": 2, "widgets_values": ["an open { brace", "a closed } one", '\\"{', "x" * 200_000]},
    ],
    "version": 0.4,
}
PROMPT = {"1": {"class_type": "FAD_ExportVideo", "inputs": {"text": "}} {"}}}


def read_boxes(data: bytes, start: int, end: int) -> dict[bytes, tuple[int, int]]:
    """The first box of each kind with the range of its content."""
    found: dict[bytes, tuple[int, int]] = {}
    while start + 8 <= end:
        size = int.from_bytes(data[start : start + 4], "big")
        found.setdefault(data[start + 4 : start + 8], (start + 8, start + size))
        start += max(size, 8)
    return found


def from_mp4(path: Path) -> dict[str, str]:
    """moov / udta / meta: names in `keys`, texts in the numbered items of `ilst`."""
    data = path.read_bytes()[: PAGE_READS[".mp4"]]
    inside = (0, len(data))
    for kind in (b"moov", b"udta", b"meta"):
        inside = read_boxes(data, *inside)[kind]
    boxes = read_boxes(data, inside[0] + 4, inside[1])
    at, names = boxes[b"keys"][0] + 8, []
    while at < boxes[b"keys"][1]:
        size = int.from_bytes(data[at : at + 4], "big")
        names.append(data[at + 8 : at + size].decode())
        at += size
    texts: dict[str, str] = {}
    at, end = boxes[b"ilst"]
    while at < end:
        size, number = struct.unpack_from(">II", data, at)
        first, last = read_boxes(data, at + 8, at + size)[b"data"]
        texts[names[number - 1]] = data[first + 8 : last].decode()
        at += size
    return texts


def _length(data: bytes, at: int) -> tuple[int, int]:
    """An EBML length and the bytes that it takes."""
    width = 9 - data[at].bit_length()
    return int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1), width


def from_webm(path: Path) -> dict[str, str]:
    """The SimpleTag elements; the JSON ends where its braces balance, whatever stands in quotes."""
    data = path.read_bytes()[: PAGE_READS[".webm"]]
    texts: dict[str, str] = {}
    at = data.find(b"\x67\xc8")
    while at >= 0:
        size, width = _length(data, at + 2)
        tag = data[at + 2 + width : at + 2 + width + size]
        parts = {}
        for kind in (b"\x45\xa3", b"\x44\x87"):
            where, text = tag.find(kind), b""
            if 0 <= where < len(tag) - 2:  # not where encoded pictures hold the same two bytes by chance
                length, wide = _length(tag, where + 2)
                text = tag[where + 2 + wide : where + 2 + wide + length]
            parts[kind] = text.rstrip(b"\0").decode(errors="replace")
        texts[parts[b"\x45\xa3"].lower()] = _balanced(parts[b"\x44\x87"])
        at = data.find(b"\x67\xc8", at + 2 + width + size)
    return texts


def _balanced(text: str) -> str:
    depth = 0
    for index, letter in enumerate(text):
        depth += (letter == "{") - (letter == "}")
        if depth == 0 and letter == "}":
            return text[: index + 1]
    return text


def from_webp(path: Path) -> dict[str, str]:
    """The EXIF chunk: an ASCII tag is `key:text`."""
    data, at = path.read_bytes(), 12
    while data[at : at + 4] != b"EXIF":
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    exif = data[at + 8 :].removeprefix(b"Exif\0\0")
    order = "<" if exif.startswith(b"II") else ">"
    first = struct.unpack_from(order + "I", exif, 4)[0]
    texts: dict[str, str] = {}
    for entry in range(struct.unpack_from(order + "H", exif, first)[0]):
        _, kind, count, where = struct.unpack_from(order + "HHII", exif, first + 2 + 12 * entry)
        assert kind == 2
        key, _, text = exif[where : where + count].rstrip(b"\0").decode().partition(":")
        texts[key] = text
    return texts


def from_gif(path: Path) -> dict[str, str]:
    """The texts of the PNG beside the GIF."""
    with Image.open(path.with_suffix(".png")) as image:
        return dict(image.text)


READERS = {"mp4": from_mp4, "webm": from_webm, "webp": from_webp, "gif": from_gif}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("alpha", [False, True])
def test_workflow_and_prompt_are_found_where_the_page_looks(tmp_path, format, alpha) -> None:
    images = torch.rand(9, 64, 64, 4 if alpha else 3)
    audio = {"waveform": torch.zeros(1, 2, 44100), "sample_rate": 44100}
    tags = front_end_tags(PROMPT, {"workflow": WORKFLOW, "other": [1, 2]})
    path = export_video(images, tmp_path, "clip", 1, Export(Fraction(8), format), audio=audio, tags=tags)
    texts = READERS[format](path)
    assert json.loads(texts["workflow"]) == WORKFLOW
    assert json.loads(texts["prompt"]) == PROMPT
    assert json.loads(texts["other"]) == [1, 2]


def test_a_webp_of_one_frame_carries_the_workflow_too(tmp_path) -> None:
    images = torch.rand(1, 30, 41, 3)
    tags = front_end_tags(PROMPT, {"workflow": WORKFLOW})
    path = export_video(images, tmp_path, "clip", 1, Export(Fraction(8), "webp"), tags=tags)
    assert json.loads(from_webp(path)["workflow"]) == WORKFLOW
    with Image.open(path) as image:
        assert image.size == (41, 30)
        image.load()


@pytest.mark.parametrize("format", FORMATS)
def test_without_tags_nothing_of_the_graph_is_written(tmp_path, format) -> None:
    path = export_video(torch.rand(3, 64, 64, 3), tmp_path, "clip", 1, Export(Fraction(8), format))
    for file in tmp_path.iterdir():
        data = file.read_bytes().lower()
        assert b"workflow" not in data and b"prompt" not in data
    assert path.exists()


def test_each_text_is_encoded_once() -> None:
    tags = front_end_tags(PROMPT, {"workflow": WORKFLOW})
    assert isinstance(json.loads(tags["prompt"]), dict) and isinstance(json.loads(tags["workflow"]), dict)
    assert front_end_tags(None, None) == {}
