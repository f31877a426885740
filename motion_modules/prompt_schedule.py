"""Prompts that change along a clip: one row of conditioning for each frame.

The host keeps such rows (comfy/conds.py), and its context windows give each window those of its own frames.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from comfy.sd import CLIP

from .keyframes import Blend, Key, blends, brief

# In the options of a conditioning: how many frames its rows are for.
FRAMES = "prompt_schedule_frames"
NOT_UNDERSTOOD = re.compile(r"--neg\b|`[^`]*`")  # of FizzNodes: a negative prompt, an expression
MOST_REPEATS = 4  # of the longest prompt, as the host allows where it pads

Conditioning = list[list]  # of [(rows, tokens, channels), options], as the host passes it


def encode_schedule(
    clip: CLIP,
    keys: Sequence[Key],
    num_frames: int,
    before: str = "",
    after: str = "",
    interpolation: str = "linear",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Conditioning:
    """A conditioning with one row for each frame, mixed of its neighbouring keys' prompts.

    before, after: texts around each key's, with blanks between. Each prompt that a frame needs is encoded once.
    Several entries where the CLIP has LoRAs scheduled over the run.
    Errors: ValueError where no common length can be found, see `mix`, or where a weight makes infinite numbers.
    """
    prompts = [" ".join(part for part in (before.strip(), key.text, after.strip()) if part) for key in keys]
    rows = blends([key.frame for key in keys], num_frames, interpolation)
    needed = list(dict.fromkeys(prompts[index] for row in rows for index in (row.first, row.second)))
    encoded = []
    for done, prompt in enumerate(needed):
        progress(done, len(needed))
        tokens = clip.tokenize(prompt)
        encoded.append(clip.encode_from_tokens_scheduled(tokens, show_pbar=False))
        if not all(torch.isfinite(rows).all() for rows, _ in encoded[-1]):
            weights = (weight for chunks in tokens.values() for chunk in chunks for _, weight, *_ in chunk)
            largest = max(weights, key=lambda weight: math.inf if math.isnan(weight) else abs(weight))
            raise ValueError(
                f"The prompt {brief(prompt)} became NaN or infinite. Its largest weight is {largest:g}: weights such as "
                "(words:1.2) are near 1. If all are, check the text encoder."
            )
    number = {prompt: i for i, prompt in enumerate(needed)}
    rows = [Blend(number[prompts[first]], number[prompts[second]], weight) for first, second, weight in rows]
    return [_mix_entries(entries, rows) for entries in zip(*encoded, strict=True)]


def words_of_other_packs(keys: Sequence[Key]) -> str | None:
    """A warning that names what another pack would not take for words; None where there is nothing of the kind."""
    for key in keys:
        if match := NOT_UNDERSTOOD.search(key.text):
            return (
                f"Line {key.line}: {brief(match[0])} is read as words of the prompt. Expressions are not understood; use a "
                "second Prompt Schedule for the negative prompt."
            )
    return None


def _mix_entries(entries: Sequence[list], rows: Sequence[Blend]) -> list:
    tokens, options = zip(*entries, strict=True)
    mixed = options[0] | {FRAMES: len(rows)}
    if mixed.get("pooled_output") is not None:
        mixed["pooled_output"] = mix([each["pooled_output"] for each in options], rows)
    return [mix(of_equal_length(tokens), rows), mixed]


def of_equal_length(prompts: Sequence[Tensor]) -> list[Tensor]:
    """Encoded prompts (1, tokens, channels), repeated to a common length, as the host does with cond and uncond.

    Attention over repeated tokens gives what it gave over the prompt, so that each frame at a key is its plain prompt.
    """
    lengths = {prompt.shape[1] for prompt in prompts}
    common = math.lcm(*lengths)
    if common > MOST_REPEATS * max(lengths):
        raise ValueError(
            f"The prompts have {', '.join(map(str, sorted(lengths)))} tokens, which have no common multiple up to "
            f"{MOST_REPEATS * max(lengths)}. Shorten the longest ones, in steps of 77 tokens (about 50 words)."
        )
    return [prompt.repeat(1, common // prompt.shape[1], 1) for prompt in prompts]


def mix(values: Sequence[Tensor], rows: Sequence[Blend]) -> Tensor:
    """Tensors (1, ...) of one shape, blended into (rows, ...); exact where a weight is 0."""
    mixed = values[0].new_empty((len(rows), *values[0].shape[1:]))
    for row, (first, second, weight) in zip(mixed, rows, strict=True):
        torch.lerp(values[first][0], values[second][0], weight, out=row)
    return mixed


def check_frames_of_prompts(conds: dict[str, list[dict]], num_frames: int) -> None:
    """conds: of a guider, by name.

    Errors: ValueError where a prompt schedule was made for another number of frames than are sampled. The host would
    repeat or drop rows.
    """
    for entry in (entry for entries in conds.values() for entry in entries):
        rows = entry.get(FRAMES, num_frames)
        if rows != num_frames:
            raise ValueError(
                f"Prompt Schedule has prompts for {rows} frames, the latent has {num_frames}. Set num_frames of "
                f"Prompt Schedule to {num_frames}."
            )
