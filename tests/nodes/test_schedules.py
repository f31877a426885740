from __future__ import annotations

import pytest

from fast_animatediff.nodes.node_text import MARKUP
from fast_animatediff.nodes.schedules import PromptSchedule


def run(schedule: str, clip: object = None) -> None:
    PromptSchedule.execute(clip, schedule, 16, "", "", "linear")


def test_a_checkpoint_without_text_encoder_is_told_what_to_connect() -> None:
    with pytest.raises(ValueError, match="no text encoder. Connect clip to Load CLIP"):
        run("0: a cat")


def test_a_bad_line_is_refused_before_anything_is_encoded() -> None:
    with pytest.raises(ValueError, match="Line 2: expected a frame"):
        run("0: a cat\na dog", clip=object())


def test_prompts_are_shown_on_the_node_as_they_were_written() -> None:
    text = "<b>__a__</b> *c* [x](y) `z` & \\(d\\) ~~e~~"
    assert not set(text.translate(MARKUP)) & set("<>*_`[\\~")
