"""The weights in a prompt, as ComfyUI reads them: (words:1.2) has that weight, other brackets 1.1 times that around them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from pydantic_core import PydanticCustomError

MOST_WEIGHT = 10_000  # with more, a text encoder's numbers are too large for half precision
MOST_NESTED = int(math.log(MOST_WEIGHT, 1.1))  # brackets in each other, whose weights multiply
SHOWN_WEIGHT = 50  # characters


def possible_weights(text: str) -> str:
    """The text itself. Errors: PydanticCustomError for a weight that makes NaN of every frame."""
    parts = [re.sub(r"\\[()]", "xx", text)]  # which are letters
    for _ in range(MOST_NESTED + 1):
        parts = [_without_weight(inside) for part in parts for inside in _in_brackets(part)]
    if parts:
        raise PydanticCustomError(
            "brackets_too_deep",
            "Brackets in a prompt should be at most {max_depth} in each other",
            {"max_depth": MOST_NESTED},
        )
    return text


def _in_brackets(text: str) -> Iterator[str]:
    """What the outermost brackets hold; one that stays open is closed by the last letter, if that is a bracket."""
    level = begin = 0
    for bracket in re.finditer("[()]", text):
        if bracket[0] == "(":
            level += 1
            begin = bracket.end() if level == 1 else begin
        else:
            level -= 1
            if level == 0:
                yield text[begin : bracket.start()]
    if level > 0 and text.endswith(")"):
        yield text[begin:-1]


def _without_weight(text: str) -> str:
    colon = text.rfind(":")
    try:
        weight = float(text[colon + 1 :]) if colon > 0 else None
    except ValueError:
        weight = None
    if weight is None:
        return text
    if not abs(weight) <= MOST_WEIGHT:
        raise PydanticCustomError(
            "weight_out_of_range",
            "The weight {weight} in a prompt should be a number from -{max_weight} to {max_weight}",
            {"weight": text[colon + 1 :].strip()[:SHOWN_WEIGHT], "max_weight": MOST_WEIGHT},
        )
    return text[:colon]
