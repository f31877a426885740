"""Schedules written as text: the keys, and how much of two neighbouring keys each frame between them gets.

A key is `24: text` on its own line, or `"24": "text"` as other packs write their schedules, or `24: "text"`. What the
text means is the caller's business: prompts here, numbers elsewhere.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple

# From the part of the way between two keys, 0 to 1, to the weight of the second.
INTERPOLATIONS: dict[str, Callable[[float], float]] = {
    "linear": lambda part: part,
    "ease": lambda part: part * part * (3.0 - 2.0 * part),
    "hold": lambda part: 0.0,
}

SEPARATORS = re.compile(r"[\s,，\ufeff]*")
FRAME = re.compile(r'(?:"(?P<quoted>[^"\n]*)"|(?P<bare>[^":：\n]*))[^\S\n]*[:：][^\S\n]*')
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
# After a frame without quotes, a text that is quoted as a whole.
WHOLE = re.compile(r'"(?:[^"\\\n]|\\.)*"[^\S\n]*[,，]?[^\S\n]*(?:\n|\Z)')
# After a quoted text: neither a comma, nor the line's end, nor the next key.
NOT_AN_END = re.compile(r'[^\S\n]*([^\s",，][^\n]*)')
ESCAPE = re.compile(r'\\(["\\/bfnrt]|u[0-9a-fA-F]{4})?')


class Key(NamedTuple):
    """What a schedule says from a frame on. line: where in the text, from 1."""

    frame: int
    text: str
    line: int


class Blend(NamedTuple):
    """One frame of a clip: 1 - weight of the key with index `first`, weight of the one with index `second`."""

    first: int
    second: int
    weight: float


def parse_keys(text: str, ends: str = "\n", example: str = "24: a prompt") -> list[Key]:
    """The keys of a schedule, in the order of their frames.

    Args:
        ends: the characters that end a text without quotes.
        example: a key as it should be, for messages.

    Errors: ValueError that names the line, what was found in it and what was expected.
    """
    text = _without_braces(text.replace("\r\n", "\n").replace("\r", "\n"))
    keys: dict[int, Key] = {}
    line, place = 1, 0
    while True:
        start = _end(SEPARATORS, text, place)
        line += text.count("\n", place, start)
        if start == len(text):
            break
        match = FRAME.match(text, start)
        if match is None:
            found = brief(text[start:].partition("\n")[0])
            raise ValueError(f"Line {line}: expected a key such as {example}; found {found}.")
        is_quoted = match["quoted"] is not None
        frame = _frame(match["quoted" if is_quoted else "bare"], line, example)
        if frame in keys:
            before = keys[frame].line
            raise ValueError(
                f"Line {line}: frame {frame} was given before, on line {before}; keep one of the two."
            )
        if text.startswith('"', match.end()) and (is_quoted or WHOLE.match(text, match.end())):
            value, place = _quoted(text, match.end(), line)
        else:
            place = _end(re.compile(f"[^{ends}{',' if is_quoted else ''}]*"), text, match.end())
            value = text[match.end() : place]
        keys[frame] = Key(frame, value.strip(), line)
        line += text.count("\n", start, place)
    if not keys:
        raise ValueError(f"The schedule is empty. Write one key on each line, such as {example}.")
    return [keys[frame] for frame in sorted(keys)]


def blends(frames: Sequence[int], num_frames: int, interpolation: str) -> list[Blend]:
    """The blend of each frame of the clip. frames: those of the keys, ascending.

    The first key also holds before its frame, the last one after. A key beyond the clip is still what the frames before
    it move towards, so that a clip cut short is the beginning of the whole one.
    """
    weigh = INTERPOLATIONS[interpolation]
    found = []
    for frame in range(num_frames):
        first = max(bisect_right(frames, frame) - 1, 0)
        second = min(first + 1, len(frames) - 1)
        way = frames[second] - frames[first]
        weight = weigh(max(frame - frames[first], 0) / way) if way else 0.0
        found.append(Blend(first, second if weight else first, weight))
    return found


def frames_beyond(keys: Sequence[Key], num_frames: int) -> str | None:
    """A warning that names the keys beyond the clip; None where there are none."""
    beyond = [key.frame for key in keys if key.frame >= num_frames]
    if not beyond:
        return None
    named = ", ".join(map(str, beyond[:8])) + (f" and {len(beyond) - 8} more" if len(beyond) > 8 else "")
    return f"Keys beyond the clip, which ends at frame {num_frames - 1}: {named}."


def timeline(keys: Sequence[Key], num_frames: int, interpolation: str, most: int = 12) -> list[str]:
    """What was understood, to be read at a glance: a line for the clip, then one for each key, at most `most`."""
    lines = [f"{num_frames} frames, {interpolation}"]
    for key in keys[:most]:
        holds_before = key is keys[0] and key.frame > 0
        lines.append(f"{key.frame}{' and before' if holds_before else ''}: {brief(key.text, 60)}")
    return lines + ([f"… and {len(keys) - most} more"] if len(keys) > most else [])


def brief(text: str, width: int = 40) -> str:
    """A text on one line, cut to a width."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


# ---- parts of a key


def _without_braces(text: str) -> str:
    """Without the braces around the whole, as in JSON; blanks take their places, so that lines keep their numbers."""
    body = text.strip()
    if not body.startswith("{"):
        return text
    return text.replace(body, f" {body[1:].removesuffix('}')} ")


def _frame(name: str, line: int, example: str) -> int:
    name = name.strip()
    if re.fullmatch(r"-\d+", name):
        raise ValueError(f"Line {line}: frame {brief(name)} is negative; frames count from 0.")
    if not re.fullmatch(r"\d{1,9}", name):
        raise ValueError(
            f"Line {line}: {brief(name) or 'nothing'} is not a frame number; write a key such as {example}."
        )
    return int(name)


def _quoted(text: str, start: int, line: int) -> tuple[str, int]:
    """A quoted text and where it ends. A backslash that starts no escape stays: prompts have \\( for a parenthesis."""
    match = QUOTED.match(text, start)
    if match is None:
        raise ValueError(f'Line {line}: the text has no closing ".')
    end = match.end()
    left_over = NOT_AN_END.match(text, end)
    if left_over is not None:
        line += text.count("\n", start, end)
        raise ValueError(
            f'Line {line}: expected a comma or a new line after the closing ", found {brief(left_over[1])}. '
            'Within a text write \\" for ".'
        )
    escaped = ESCAPE.sub(lambda found: found[0] if found[1] else r"\\", match[1])
    return json.loads(f'"{escaped}"', strict=False), end


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    match = pattern.match(text, start)
    return match.end() if match else start
