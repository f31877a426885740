from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fast_animatediff.motion_modules.keyframes import (
    INTERPOLATIONS,
    blends,
    frames_beyond,
    parse_keys,
    timeline,
)

TRAVEL = {0: "a cat", 24: "a dog, running", 48: "a fox"}


def read(text: str, ends: str = "\n") -> dict[int, str]:
    return {key.frame: key.text for key in parse_keys(text, ends)}


# ---- what is understood


@pytest.mark.parametrize(
    "text",
    [
        "0: a cat\n24: a dog, running\n48: a fox",
        "\n  0 :a cat  \r\n\r\n24:   a dog, running\r\n48: a fox\n\n",
        "48: a fox\n0: a cat\n24: a dog, running",
        '"0": "a cat", "24": "a dog, running", "48": "a fox"',
        '"0" :"a cat",\n"24": "a dog,\nrunning",\n"48": "a fox",\n',
        '"0": "a cat"\n"24": "a dog, running"\n\n"48": "a fox"',
        '"0":"a cat""24":"a dog, running""48":"a fox"',
        json.dumps(TRAVEL, indent=2),
        f"\n{json.dumps(TRAVEL)[:-1]},\n}}\n",
        "{\n0: a cat\n24: a dog, running\n48: a fox\n}",
        '0: a cat\n"24": "a dog, running",\n48: a fox',
        '\ufeff0: "a cat"\n24: "a dog, running" ,\r\n48: "a fox"',
        '"0": "a cat"，"24": "a dog, running"，"48": "a fox"',
        '"0": a cat\n"24": "a dog, running"\n"48": a fox,',
        "0：a cat\n２４：a dog, running\n٤٨: a fox",
    ],
)
def test_lines_and_pasted_schedules_are_understood(text: str) -> None:
    assert {frame: " ".join(prompt.split()) for frame, prompt in read(text).items()} == TRAVEL


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "(a cat:1.2), at 12:30",
        '"Hello" says the cat',
        "{red|blue} cat, __animal__, {2$$a|b}",
        "<lora:detail:0.8> a cat",
        r"miku \(vocaloid\)",
        r"a\\b, C:\new\tail",
        "猫、日本語の街、夜",
        "кошка в лесу",
        "قطة في الغابة",
        "🐱 + 🐶",
        "a cat } and { a dog",
        "embedding:bad-hands",
    ],
)
def test_a_prompt_on_a_line_is_taken_as_it_is(prompt: str) -> None:
    assert read(f"0: {prompt}\n8: a dog") == {0: prompt, 8: "a dog"}


def test_quoted_prompts_may_hold_escapes_quotes_and_line_breaks() -> None:
    prompts = {0: 'the "big" cat', 8: "C:\\new", 16: "猫 🐱", 24: "a\nb", 32: "{a|b}"}
    assert read(json.dumps(prompts)) == read(json.dumps(prompts, ensure_ascii=False)) == prompts
    assert read(r'"0": "miku \(vocaloid\), smile"') == {0: r"miku \(vocaloid\), smile"}
    assert read(r'"0": "miku \\(vocaloid\\)"') == {0: r"miku \(vocaloid\)"}


def test_numbers_may_share_a_line() -> None:
    expected = {0: "0.2", 24: "1.0", 47: "0.5"}
    for text in (
        "0: 0.2, 24: 1.0, 47: 0.5",
        "0: 0.2\n24: 1.0,\n47: 0.5",
        '{"0": 0.2, "24": "1.0", "47": 0.5}',
    ):
        assert read(text, ends="\n,") == expected


SPACES = " \t"
PROMPTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\n"), max_size=80)
SCHEDULES = st.dictionaries(st.integers(0, 10**9 - 1), PROMPTS, min_size=1, max_size=20)


@given(SCHEDULES)
def test_what_is_written_in_lines_is_read_again(prompts: dict[int, str]) -> None:
    text = "\n".join(f"{frame}: {prompt}" for frame, prompt in prompts.items())
    assert read(text) == {frame: prompts[frame].strip() for frame in sorted(prompts)}
    assert list(read(text)) == sorted(prompts)


@given(SCHEDULES, st.sampled_from([None, 0, 2]), st.booleans(), st.booleans())
def test_what_is_written_as_json_is_read_again(
    prompts: dict[int, str], indent: int | None, ascii_only: bool, braces: bool
) -> None:
    text = json.dumps(prompts, indent=indent, ensure_ascii=ascii_only)
    text = text if braces else text.strip("{}")
    assert read(text) == {frame: prompts[frame].strip() for frame in sorted(prompts)}


@given(st.text(max_size=200) | st.text('0123456789":,{}\\\n\r -a', max_size=60))
def test_any_text_is_read_or_refused_with_a_line_of_it(text: str) -> None:
    try:
        keys = parse_keys(text)
    except ValueError as error:
        line = re.match(r"Line (\d+): ", str(error))
        lines = text.strip().count("\n") + text.count("\r") + text.count("\n") + 1
        assert str(error).startswith("The schedule is empty") or 1 <= int(line[1]) <= lines
    else:
        assert keys and [key.frame for key in keys] == sorted({key.frame for key in keys})


def test_ten_thousand_keys_and_a_hundred_kilobytes_are_read_at_once() -> None:
    start = time.monotonic()
    assert len(parse_keys("\n".join(f"{frame}: prompt {frame}" for frame in range(10_000)))) == 10_000
    assert len(parse_keys(json.dumps({frame: f"prompt {frame}" for frame in range(10_000)}))) == 10_000
    assert len(read("0: " + "cat, " * 20_000)[0]) == 99_999
    assert len(read('"0": "' + "cat, \\\\" * 15_000 + '"')[0]) == 90_000
    for broken in ('"0": "' + "\\" * 99_999, '"' * 100_000, "0:" * 50_000 + "\n" + " " * 100_000 + "a"):
        with pytest.raises(ValueError, match="Line|was given"):
            parse_keys(broken + "\nx")
    assert time.monotonic() - start < 5


# ---- what is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "The schedule is empty. Write one key on each line, such as 24: a prompt."),
        (" \n\t, \n", "The schedule is empty."),
        ("{}", "The schedule is empty."),
        (
            "0: a cat\na dog",
            "Line 2: expected a key such as 24: a prompt; found a dog.",
        ),
        ("0: a cat\n\n12 a dog", "Line 3: expected a key such as 24: a prompt"),
        ("0: a cat\nmax_f: a dog", "Line 2: max_f is not a frame number; write a key such as 24: a prompt."),
        ("1.5: a cat", "Line 1: 1.5 is not a frame number"),
        (": a cat", "Line 1: nothing is not a frame number"),
        ("12345678901: a cat", "Line 1: 12345678901 is not a frame number"),
        ("²: a cat", "Line 1: ² is not a frame number"),
        ("0: a cat\n-3: a dog", "Line 2: frame -3 is negative; frames count from 0."),
        ('"-3": "a dog"', "Line 1: frame -3 is negative"),
        ("0: a\n8: b\n\n8: c", "Line 4: frame 8 was given before, on line 2; keep one of the two."),
        ('{\n"8": "a",\n"008": "b"\n}', "Line 3: frame 8 was given before, on line 2"),
        (
            '{"0": "a\n\ncat", "24": "a "big" dog"}',
            'Line 3: expected a comma or a new line after the closing "',
        ),
        ('{"0": "a cat", "24": "a "big" dog"}', 'found big" dog". Within a text write \\" for ".'),
        ('"0": "a cat",\n"24": "a dog', 'Line 2: the text has no closing ".'),
        (
            '"0": a cat, best quality',
            "Line 1: expected a key such as 24: a prompt; found best",
        ),
        ("0: " + "a" * 10 + "\n" + "b" * 99, f"Line 2: expected .* found {'b' * 39}…"),
    ],
)
def test_a_bad_line_is_named_with_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message if ".*" in message else re.escape(message)):
        parse_keys(text)


def test_the_example_is_of_the_callers_kind() -> None:
    with pytest.raises(ValueError, match="such as 24: 0.5;"):
        parse_keys("half", "\n,", example="24: 0.5")


# ---- between the keys


def weights(frames: list[int], num_frames: int, interpolation: str) -> list[list[float]]:
    """The weight of each key in each frame."""
    rows = []
    for first, second, weight in blends(frames, num_frames, interpolation):
        row = [0.0] * len(frames)
        row[first] += 1 - weight
        row[second] += weight
        rows.append(row)
    return rows


def test_linear_ease_and_hold_between_two_keys() -> None:
    def second(interpolation: str) -> list[float]:
        return [row[1] for row in weights([0, 4], 6, interpolation)]

    assert second("linear") == [0, 0.25, 0.5, 0.75, 1, 1]
    assert second("ease") == [0, 0.15625, 0.5, 0.84375, 1, 1]
    assert second("hold") == [0, 0, 0, 0, 1, 1]


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=8, unique=True).map(sorted),
    st.integers(1, 64),
    st.sampled_from(list(INTERPOLATIONS)),
)
def test_weights_of_any_keys(frames: list[int], num_frames: int, interpolation: str) -> None:
    rows = weights(frames, num_frames, interpolation)
    assert len(rows) == num_frames
    for frame, row in enumerate(rows):
        assert sum(row) == pytest.approx(1) and min(row) >= 0
        if frame in frames:
            assert row[frames.index(frame)] == 1
        if frame <= frames[0]:
            assert row[0] == 1
        if frame >= frames[-1]:
            assert row[-1] == 1
    assert (
        weights(frames, 100, interpolation)[:num_frames] == rows
    )  # a clip cut short is the whole one's beginning


def test_ease_and_linear_meet_half_way_and_never_turn_back() -> None:
    for interpolation in ("linear", "ease"):
        second = [row[1] for row in weights([0, 48], 49, interpolation)]
        assert second[24] == 0.5 and second == sorted(second)


# ---- what the node shows


def test_the_timeline_says_what_was_understood() -> None:
    keys = parse_keys(json.dumps({8: "a cat,\non a mat", 24: "x" * 99}))
    assert timeline(keys, 48, "ease") == [
        "48 frames, ease",
        "8 and before: a cat, on a mat",
        f"24: {'x' * 59}…",
    ]
    many = timeline(parse_keys("\n".join(f"{i}: a" for i in range(10_000))), 16, "hold")
    assert len(many) == 14 and many[-1] == "… and 9988 more"


def test_keys_beyond_the_clip_are_named() -> None:
    keys = parse_keys("0: a\n15: b\n16: c\n48: d")
    assert frames_beyond(keys, 49) is None
    assert frames_beyond(keys, 16) == "Keys beyond the clip, which ends at frame 15: 16, 48."
    many = frames_beyond(parse_keys("\n".join(f"{i}: a" for i in range(10_000))), 16)
    assert many is not None and many.endswith("16, 17, 18, 19, 20, 21, 22, 23 and 9976 more.")


def test_schedules_are_read_without_torch() -> None:
    source = Path(parse_keys.__code__.co_filename).read_text(encoding="utf-8")
    assert "torch" not in source and "comfy" not in source
