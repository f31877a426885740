"""Animated PNG, WebP and GIF look as they do in browsers; the expected values were seen in Chromium."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fast_animatediff.video import Clip, Selection, load_clip, open_source

NONE, BACKGROUND, PREVIOUS = 0, 1, 2
SOURCE, OVER = 0, 1
SIDE = 8
RED, GREEN, BLUE = (255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 255, 255)
GREY8, RGB8, GREY_ALPHA8, RGBA8 = (8, 0), (8, 2), (8, 4), (8, 6)
GREY16, RGB16, GREY_ALPHA16, RGBA16 = (16, 0), (16, 2), (16, 4), (16, 6)
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}

Frame = tuple[Sequence[int], tuple[int, int, int, int], int, int]


def load(path: Path) -> Clip:
    with open_source(str(path), path.name) as source:
        return load_clip(source, Selection(Fraction(0)), "source")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def apng(path: Path, form: tuple[int, int], frames: Sequence[Frame], more: bytes = b"") -> Path:
    """An APNG of 8x8: for each frame its colour (in the form's own depth), left, top, width, height, dispose, blend.

    `more` are chunks that come before the pixels.
    """
    bits, colour_type = form
    data = chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, bits, colour_type, 0, 0, 0))
    data += more + chunk(b"acTL", struct.pack(">II", len(frames), 0))
    sequence = 0
    for index, (colour, (left, top, width, height), dispose, blend) in enumerate(frames):
        control = struct.pack(">IIIIIHHBB", sequence, width, height, left, top, 1, 10, dispose, blend)
        row = b"\0" + np.array(colour, f">u{bits // 8}").tobytes() * width
        pixels = zlib.compress(row * height)
        data += chunk(b"fcTL", control)
        data += chunk(b"fdAT", struct.pack(">I", sequence + 1) + pixels) if index else chunk(b"IDAT", pixels)
        sequence += 2 if index else 1
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data + chunk(b"IEND", b""))
    return path


WHOLE = (0, 0, SIDE, SIDE)
MIDDLE = (2, 2, 4, 4)


def middle(clip: Clip) -> list[tuple[int, ...]]:
    """Red, green, blue and alpha (255 is opaque) in the middle of each frame; colours lie on black."""
    mask = torch.zeros(len(clip.images), SIDE, SIDE) if clip.mask is None else clip.mask
    values = torch.cat([clip.images, 1 - mask[..., None]], -1)[:, SIDE // 2, SIDE // 2]
    return [tuple(row) for row in (values * 255).round().int().tolist()]


def test_a_frame_disposed_to_the_previous_one_shows_that_one_again(tmp_path) -> None:
    frames = [
        (GREEN, WHOLE, NONE, SOURCE),
        (RED, MIDDLE, PREVIOUS, SOURCE),
        ((0, 0, 0, 0), MIDDLE, NONE, OVER),
    ]
    clip = load(apng(tmp_path / "clip.png", RGBA8, frames))
    assert middle(clip) == [GREEN, RED, GREEN] and clip.mask is None


def test_a_frame_disposed_to_the_background_leaves_a_hole(tmp_path) -> None:
    frames = [
        (GREEN, WHOLE, NONE, SOURCE),
        (RED, MIDDLE, BACKGROUND, SOURCE),
        ((0, 0, 0, 0), MIDDLE, NONE, OVER),
    ]
    assert middle(load(apng(tmp_path / "clip.png", RGBA8, frames))) == [GREEN, RED, (0, 0, 0, 0)]


@pytest.mark.parametrize("dispose", [NONE, BACKGROUND, PREVIOUS])
def test_half_transparent_frames_are_blended_and_stay_opaque(tmp_path, dispose) -> None:
    frames = [(BLUE, WHOLE, NONE, SOURCE), ((255, 0, 0, 128), MIDDLE, dispose, OVER)]
    clip = load(apng(tmp_path / "clip.png", RGBA8, frames))
    assert middle(clip)[1] == (128, 0, 127, 255)


def test_a_frame_that_replaces_takes_its_transparency_along(tmp_path) -> None:
    frames = [(BLUE, WHOLE, NONE, SOURCE), ((255, 0, 0, 64), MIDDLE, NONE, SOURCE)]
    assert middle(load(apng(tmp_path / "clip.png", RGBA8, frames)))[1] == (64, 0, 0, 64)


@pytest.mark.parametrize(
    "form, over, expected",
    [
        (GREY8, [0x80], (128, 128, 128, 255)),
        (RGB8, [0, 0, 0x80], (0, 0, 128, 255)),
        (GREY_ALPHA8, [0x80, 0x80], (64, 64, 64, 255)),
        (GREY16, [0x8080], (128, 128, 128, 255)),
        (RGB16, [0, 0, 0x8080], (0, 0, 128, 255)),
        (GREY_ALPHA16, [0x8080, 0x8080], (64, 64, 64, 255)),
        (RGBA16, [0, 0, 0xFFFF, 0x8080], (0, 0, 128, 255)),
    ],
    ids=str,
)
def test_every_depth_and_colour_type_is_blended_over_black(tmp_path, form, over, expected) -> None:
    black = [0] * len(over)
    if form[1] >= 4:
        black[-1] = 2 ** form[0] - 1
    frames = [(black, WHOLE, NONE, SOURCE), (over, WHOLE, NONE, OVER)]
    found = middle(load(apng(tmp_path / "clip.png", form, frames)))[1]
    assert np.abs(np.subtract(found, expected)).max() <= 1


@pytest.mark.parametrize("form, channels", [(GREY8, 1), (RGB8, 3), (GREY16, 1), (RGB16, 3)], ids=str)
def test_the_transparent_colour_of_every_depth_is_transparent(tmp_path, form, channels) -> None:
    key = 0x34 if form[0] == 8 else 0x1234
    frames = [([other] * channels, WHOLE, NONE, SOURCE) for other in (0x56, key)]
    transparent = chunk(b"tRNS", struct.pack(">H", key) * channels)
    clip = load(apng(tmp_path / "clip.png", form, frames, transparent))
    assert [alpha for *_, alpha in middle(clip)] == [255, 0]


def test_damage_in_what_is_not_shown_does_not_matter(tmp_path) -> None:
    frames = [(RED, WHOLE, NONE, SOURCE), (GREEN, WHOLE, NONE, SOURCE)]
    damaged = chunk(b"tEXt", b"a\0b")[:-1] + b"?"
    assert middle(load(apng(tmp_path / "clip.png", RGBA8, frames, damaged))) == [RED, GREEN]


def test_a_text_between_two_parts_of_a_frame_is_passed_over(tmp_path) -> None:
    path = apng(tmp_path / "clip.png", RGBA8, [(RED, WHOLE, NONE, SOURCE), (GREEN, WHOLE, NONE, SOURCE)])
    head, rest = path.read_bytes().split(b"fdAT")
    pixels, end = rest[: int.from_bytes(head[-4:], "big")], chunk(b"IEND", b"")
    parts = chunk(b"fdAT", pixels[:9]), chunk(b"tEXt", b"a\0b"), chunk(b"fdAT", pixels[:4] + pixels[9:])
    path.write_bytes(head[:-4] + b"".join(parts) + end)
    assert middle(load(path)) == [RED, GREEN]


def test_an_animation_without_frames_is_a_still(tmp_path) -> None:
    path = tmp_path / "clip.png"
    Image.new("RGBA", (SIDE, SIDE), RED).save(path)
    data = path.read_bytes()
    path.write_bytes(data[:33] + chunk(b"acTL", struct.pack(">II", 1, 0)) + data[33:])
    assert middle(load(path)) == [RED]


def test_a_frame_larger_than_the_picture_ends_the_clip_before_it_takes_memory(tmp_path, caplog) -> None:
    huge = (0, 0, 30_000, 30_000)
    path = apng(tmp_path / "clip.png", RGBA8, [(RED, WHOLE, NONE, SOURCE), (GREEN, MIDDLE, NONE, SOURCE)])
    at = path.read_bytes().rindex(b"fcTL")
    control = struct.pack(">IIIIIHHBB", 1, *huge[2:], *huge[:2], 1, 10, NONE, SOURCE)
    data = path.read_bytes()
    path.write_bytes(data[: at - 4] + chunk(b"fcTL", control) + data[at + 4 + len(control) + 4 :])
    assert middle(load(path)) == [RED]
    assert "clip.png is damaged or cut off" in caplog.text


def test_an_animation_that_is_cut_off_between_two_frames_is_said_to_be(tmp_path, caplog) -> None:
    path = apng(tmp_path / "clip.png", RGBA8, [(RED, WHOLE, NONE, SOURCE), (GREEN, WHOLE, NONE, SOURCE)])
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"fcTL") - 4])
    assert middle(load(path)) == [RED]
    assert "clip.png is damaged or cut off" in caplog.text


BOXES = st.tuples(*[st.integers(0, SIDE - 1)] * 2, *[st.integers(1, SIDE)] * 2).map(
    lambda box: (box[0], box[1], min(box[2], SIDE - box[0]), min(box[3], SIDE - box[1]))
)
COLOURS = st.tuples(*[st.integers(0, 255)] * 4)
DRAWN = st.tuples(
    COLOURS, BOXES, st.sampled_from([NONE, BACKGROUND, PREVIOUS]), st.sampled_from([SOURCE, OVER])
)


def by_hand(frames: Sequence[Frame]) -> list[np.ndarray]:
    """Premultiplied RGBA in 0..255 of every frame, as the specification says, in exact numbers."""
    canvas = np.zeros((SIDE, SIDE, 4))
    shown = []
    for colour, (left, top, width, height), dispose, blend in frames:
        area = np.s_[top : top + height, left : left + width]
        before = canvas.copy()
        new = np.array([*(np.array(colour[:3]) * colour[3] / 255), colour[3]])
        canvas[area] = new + (canvas[area] * (1 - colour[3] / 255) if blend == OVER else 0)
        shown.append(canvas.copy())
        if dispose == BACKGROUND:
            canvas[area] = 0
        if dispose == PREVIOUS:
            canvas = before
    return shown


@settings(max_examples=40, deadline=None)
@given(st.lists(DRAWN, min_size=2, max_size=5))
def test_any_animation_is_composed_as_specified(tmp_path_factory, frames) -> None:
    frames = [(frames[0][0], WHOLE, *frames[0][2:]), *frames[1:]]
    clip = load(apng(tmp_path_factory.mktemp("apng") / "clip.png", RGBA8, frames))
    mask = torch.zeros(len(frames), SIDE, SIDE) if clip.mask is None else clip.mask
    found = torch.cat([clip.images, 1 - mask[..., None]], -1).numpy() * 255
    assert np.abs(found - np.stack(by_hand(frames))).max() <= 3


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_a_still_picture_is_a_clip_of_one_frame(tmp_path, suffix) -> None:
    path = tmp_path / f"photo{suffix}"
    Image.new("RGB", (16, 16), "red").save(path)
    assert len(load(path).images) == 1


def test_sixteen_bit_greys_are_not_cut_off(tmp_path) -> None:
    path = tmp_path / "depth.png"
    Image.fromarray(np.full((16, 16), 0x8000, np.uint16)).save(path)
    assert load(path).images.mean().item() == pytest.approx(0.5, abs=0.003)


def gif(
    path: Path,
    frames: Sequence[tuple[int, tuple[int, int, int, int], int | None]],
    *,
    background: int = 3,
    delay: int = 10,
) -> Path:
    """A GIF of 8x8 without a transparent colour: for each frame its colour's number, its box and its disposal.

    One with the disposal None has no delay either. `delay` is in hundredths of a second.
    """
    palette = bytes([0, 0, 0, 255, 0, 0, 0, 255, 0, 30, 144, 255])
    data = b"GIF89a" + struct.pack("<HHBBB", SIDE, SIDE, 0x80 | 1, background, 0) + palette
    for colour, (left, top, width, height), disposal in frames:
        if disposal is not None:
            data += b"\x21\xf9\x04" + struct.pack("<BHB", disposal << 2, delay, 0) + b"\0"
        data += b"\x2c" + struct.pack("<HHHHB", left, top, width, height, 0)
        # Uncompressed LZW: a clear code before every two pixels keeps the codes at three bits.
        codes = [
            code for pixel in range(width * height) for code in ((4,) if pixel % 2 == 0 else ()) + (colour,)
        ]
        bits = sum(code << 3 * at for at, code in enumerate([*codes, 5]))
        packed = bits.to_bytes((3 * (len(codes) + 1) + 7) // 8, "little")
        blocks = [packed[at : at + 255] for at in range(0, len(packed), 255)]
        data += b"\x02" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"
    path.write_bytes(data + b"\x3b")
    return path


def test_a_gif_frame_disposed_to_the_background_leaves_a_hole(tmp_path) -> None:
    frames = [(1, WHOLE, 1), (2, MIDDLE, 2), (1, (0, 0, 1, 1), 1)]
    assert middle(load(gif(tmp_path / "clip.gif", frames))) == [RED, GREEN, (0, 0, 0, 0)]


@pytest.mark.parametrize("background", [0, 3])
def test_what_a_gif_does_not_cover_is_transparent(tmp_path, background) -> None:
    clip = load(
        gif(tmp_path / "clip.gif", [(1, (0, 0, 4, 8), 1), (2, (0, 0, 2, 8), 1)], background=background)
    )
    assert clip.images[:, :, 4:].max() == 0 and clip.mask[:, :, 4:].min() == 1
    assert clip.images[1, :, :2, 1].min() == 1 and clip.images[1, :, 2:4, 0].min() == 1


@pytest.mark.parametrize(
    "disposals, seconds", [((None, None, None), 0.3), ((None, None, 1), 0.7), ((1, None, None), 0.7)]
)
def test_gif_frames_without_a_delay_are_shown_for_a_tenth_of_a_second(tmp_path, disposals, seconds) -> None:
    frames = [(colour, WHOLE, disposal) for colour, disposal in zip((1, 2, 1), disposals, strict=True)]
    path = gif(tmp_path / "clip.gif", frames, delay=50)
    with open_source(str(path), path.name) as source:
        assert source.frame_count == 3 and float(source.duration) == seconds
    clip = load(path)
    assert middle(clip) == [RED, GREEN, RED] and float(clip.seconds) == seconds


def test_an_opaque_animation_has_no_mask(tmp_path) -> None:
    frames = [(1, WHOLE, 1), (2, MIDDLE, 1)]
    assert load(gif(tmp_path / "clip.gif", frames)).mask is None


def test_a_mask_covers_the_frames_before_the_first_hole(tmp_path) -> None:
    frames = [(1, WHOLE, 1), (2, WHOLE, 1), (2, MIDDLE, 2), (1, (0, 0, 1, 1), 1)]
    mask = load(gif(tmp_path / "clip.gif", frames)).mask
    assert mask[:3].max() == 0 and mask[3].sum() == 16
