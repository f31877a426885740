"""Captions of scenes in a small grammar with several phrasings, and their tokens as CLIP's tokenizer makes them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .scenes import COLOURS, MOTIONS, PATTERNS, SHAPES, SIZES, SPEEDS, TONES, Attributes

MOTION_PHRASES = {
    "still": ("standing still", "not moving", "at rest"),
    "left": ("moving left", "moving to the left", "going left"),
    "right": ("moving right", "moving to the right", "going right"),
    "up": ("moving up", "rising", "going up"),
    "down": ("moving down", "falling", "going down"),
    "round": ("circling", "going round and round", "moving in a loop"),
    "grow": ("growing", "getting bigger", "growing larger"),
}
# Where the subject of a single picture is, in fifths of its sides. Clips have no such captions, but the motion module can
# move a subject by what the UNet has learnt of these words; without them it never learned to tell left from right.
ACROSS = ("on the far left", "on the left", "in the center", "on the right", "on the far right")
DOWN = ("far up", "a bit up", "halfway up", "a bit down", "far down")
ARTICLES = ("a", "a", "a", "one", "the")
PRAISE = ("high quality", "best quality", "masterpiece, best quality", "high quality, ultra HD", "4k, sharp")
# Empty captions, for guidance: nothing at all, or the negative prompt that the workflows start with.
NO_CAPTIONS = ("", "bad quality, worst quality, ugly faces, bad anime")

NO_CAPTION_RATE = 0.12
TOKENS = 77
START, END = 49406, 49407

Tokenize = Callable[[str], Sequence[int]]


def plain_caption(scenes: Attributes, i: int, motion: bool = True) -> str:
    """The i-th scene in the first phrasing, with everything said or without its movement: for samples and scores."""
    text = caption(scenes, i, random.Random(0), rate_of_words=1.0, phrasings=1)
    return text if motion else without_motion(text)


def caption(
    scenes: Attributes,
    i: int,
    rng: random.Random,
    rate_of_words: float = 0.75,
    phrasings: int | None = None,
    spot: str = "",
) -> str:
    """A caption of the i-th scene.

    Args:
        spot: words for where the subject is.
        rate_of_words: how often size, motion and background are said.
        phrasings: how many of the phrasings to choose from; None for all.
    """

    def pick(values: Sequence[str]) -> str:
        return rng.choice(values[:phrasings])

    def said() -> bool:
        return rng.random() < rate_of_words

    shape, colour = SHAPES[scenes.shape[i]], tuple(COLOURS)[scenes.colour[i]]
    size = tuple(SIZES)[scenes.size[i]]
    subject = [pick(ARTICLES), *([size] if size != "medium" and said() else []), colour, shape]
    motion = motion_phrase(scenes, i, pick) if said() else ""
    place = place_phrase(scenes, i, pick) if said() else ""
    form = rng.randrange(phrasings or 4)
    parts = [" ".join(subject), motion, spot, place]
    if form == 2:
        parts = [" ".join(subject), spot, place, motion]
    elif form == 3:
        parts = [*subject[:-2], shape, "that is", colour, motion, spot, place]
    text = " ".join(part for part in parts if part)
    if phrasings is None and rng.random() < 0.15:
        text += ", " + pick(PRAISE)
    return text


def motion_phrase(scenes: Attributes, i: int, pick: Callable[[Sequence[str]], str]) -> str:
    motion, speed = MOTIONS[scenes.motion[i]], tuple(SPEEDS)[scenes.speed[i]]
    words = pick(MOTION_PHRASES[motion])
    return words if motion == "still" or speed == "normally" else f"{words} {speed}"


def place_phrase(scenes: Attributes, i: int, pick: Callable[[Sequence[str]], str]) -> str:
    pattern, tone = PATTERNS[scenes.pattern[i]], tuple(TONES)[scenes.tone[i]]
    return f"{pick(('on a', 'over a', 'in front of a'))} {pattern} {tone} background"


def spot_phrase(spot: Sequence[int]) -> str:
    """spot: indices into ACROSS and DOWN, negative where nothing is said."""
    return " ".join(words[index] for words, index in zip((ACROSS, DOWN), spot, strict=True) if index >= 0)


def draw_captions(scenes: Attributes, rng: random.Random, spots: Tensor | None = None) -> list[str]:
    """One caption for each scene, some of them empty. spots: (n, 2), see `spot_phrase`."""
    phrases = [""] * len(scenes) if spots is None else [spot_phrase(spot) for spot in spots.tolist()]
    return [
        rng.choice(NO_CAPTIONS) if rng.random() < NO_CAPTION_RATE else caption(scenes, i, rng, spot=phrase)
        for i, phrase in enumerate(phrases)
    ]


def says_motion(text: str) -> bool:
    return any(phrase in text for phrases in MOTION_PHRASES.values() for phrase in phrases)


def without_motion(text: str) -> str:
    """A caption without its words for movement and speed."""
    words = [phrase for phrases in MOTION_PHRASES.values() for phrase in phrases]
    for phrase in sorted(words, key=len, reverse=True):
        for speed in (" slowly", ""):
            text = text.replace(f" {phrase}{speed}", "")
    return text


# ---- tokens


def vocabulary() -> list[str]:
    """Every word of the grammar and of the empty captions; commas are words of their own."""
    texts = [*SHAPES, *COLOURS, *SIZES, *PATTERNS, *TONES, *SPEEDS, *PRAISE, *NO_CAPTIONS, *ARTICLES]
    texts += [*ACROSS, *DOWN]
    texts += [phrase for phrases in MOTION_PHRASES.values() for phrase in phrases]
    texts += ["that is", "on over in front of a background"]
    return sorted({word for text in texts for word in words_of(text)})


def words_of(text: str) -> list[str]:
    return text.lower().replace(",", " ,").split()


class Tokens:
    """Tokens of captions, word by word: CLIP's tokenizer never joins words, and looking them up is far faster.

    tokenize: a tokenizer that returns a text's tokens without start, end or padding.
    """

    def __init__(self, tokenize: Tokenize) -> None:
        self._of_word = {word: tuple(tokenize(word)) for word in vocabulary()}

    @property
    def used(self) -> list[int]:
        """All tokens that can occur, ascending: the rows of the token table that training uses."""
        return sorted({START, END}.union(*self._of_word.values()))

    def __call__(self, captions: Sequence[str]) -> Tensor:
        """(n, 77) with start, end and padding. Errors: KeyError for a word outside the grammar."""
        rows = torch.full((len(captions), TOKENS), END)
        rows[:, 0] = START
        for row, text in zip(rows, captions, strict=True):
            ids = [token for word in words_of(text) for token in self._of_word[word]]
            row[1 : len(ids) + 1] = torch.tensor(ids, dtype=torch.long)
        return rows


def host_tokens() -> Tokens:
    """With the host's own tokenizer of SD1.5."""
    from comfy.sd1_clip import SDTokenizer

    tokenizer = SDTokenizer()
    return Tokens(
        lambda text: [token for token, *_ in tokenizer.tokenize_with_weights(text)[0] if token < START]
    )
