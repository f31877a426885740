"""What is said of a scene, in words and in tokens."""

from __future__ import annotations

import random

import pytest
import torch

from comfy.sd1_clip import SD1Tokenizer
from fast_animatediff.tests.tiny.made_clips import attributes_of
from fast_animatediff.tiny.domain.captions import (
    NO_CAPTIONS,
    caption,
    draw_captions,
    host_tokens,
    plain_caption,
    says_motion,
    without_motion,
)
from fast_animatediff.tiny.domain.scenes import (
    COLOURS,
    MOTIONS,
    SHAPES,
    draw_attributes,
    seeded,
)


def test_captions_say_what_is_to_be_seen() -> None:
    a = attributes_of(
        1,
        shape=SHAPES.index("ring"),
        colour=tuple(COLOURS).index("yellow"),
        motion=MOTIONS.index("left"),
        speed=0,
    )
    assert plain_caption(a, 0) == "a yellow ring moving left slowly on a plain gray background"
    assert plain_caption(a, 0, motion=False) == "a yellow ring on a plain gray background"


def test_a_caption_always_names_colour_and_shape_of_its_own_scene() -> None:
    a = draw_attributes(seeded("captions"), 300)
    rng = random.Random(0)
    for i, text in enumerate(caption(a, i, rng) for i in range(len(a))):
        words = text.replace(",", " ").split()
        assert tuple(COLOURS)[a.colour[i]] in words and SHAPES[a.shape[i]] in words
        others = set(SHAPES) - {SHAPES[a.shape[i]]}
        assert not others & set(words)


def test_a_caption_without_motion_says_all_but_that() -> None:
    attributes = draw_attributes(seeded("silent"), 60)
    for i in range(60):
        said = caption(attributes, i, random.Random(i))
        silent = without_motion(said)
        assert not says_motion(silent) and "slowly" not in silent and SHAPES[attributes.shape[i]] in silent
        assert (silent == said) == (not says_motion(said))


def test_one_scene_is_described_in_many_ways() -> None:
    a = attributes_of(1, motion=MOTIONS.index("up"))
    texts = {caption(a, 0, random.Random(seed)) for seed in range(200)}
    assert len(texts) > 50
    assert 0.6 < sum(map(says_motion, texts)) / len(texts) < 0.95


def test_some_captions_say_nothing_so_that_guidance_has_what_to_leave() -> None:
    texts = draw_captions(draw_attributes(seeded("none"), 1000), random.Random(0))
    empty = [text for text in texts if text in NO_CAPTIONS]
    assert 60 < len(empty) < 200 and len(set(empty)) == 2


def test_tokens_are_those_of_the_hosts_tokenizer() -> None:
    texts = [*draw_captions(draw_attributes(seeded("tokens"), 200), random.Random(1)), *NO_CAPTIONS]
    tokenizer = SD1Tokenizer()
    expected = torch.tensor(
        [[token for token, _ in tokenizer.tokenize_with_weights(text)["l"][0]] for text in texts]
    )
    tokens = host_tokens()
    assert torch.equal(tokens(texts), expected)
    assert set(expected.flatten().tolist()) <= set(tokens.used) and len(tokens.used) < 150
    with pytest.raises(KeyError):
        tokens(["a panda"])
