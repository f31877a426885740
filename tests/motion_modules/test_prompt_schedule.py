from __future__ import annotations

from typing import Any

import components
import pytest
import torch
from torch import Tensor

import comfy.hooks
import comfy.sample
import nodes
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP
from comfy.sd1_clip import SD1ClipModel, SD1Tokenizer, SDClipModel
from comfy.supported_models_base import ClipTarget
from fast_animatediff.motion_modules.adapter import apply_motion_module
from fast_animatediff.motion_modules.keyframes import parse_keys
from fast_animatediff.motion_modules.layer_windows import make_windows
from fast_animatediff.motion_modules.prompt_schedule import (
    FRAMES,
    Conditioning,
    check_frames_of_prompts,
    encode_schedule,
    of_equal_length,
    words_of_other_packs,
)
from fast_animatediff.motion_modules.windows import WindowSettings, set_windows
from fast_animatediff.tiny.extension.family import TEXT_ENCODER

CAT, DOG = "a red (cat:1.3)", "a green dog, running"
LONG = "a cat of many words " * 30  # two times 77 tokens
LONGEST = "a cat of many words " * 50  # four times
WINDOWS = ("standard_static", "standard_uniform", "looped_uniform", "batched")


class SmallTextEncoder(SDClipModel):
    """CLIP's text encoder, as wide as the components' UNet expects."""

    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = None) -> None:
        config = TEXT_ENCODER | {"hidden_size": components.CONTEXT_CHANNELS, "intermediate_size": 48}
        super().__init__(
            device=device,
            dtype=dtype,
            textmodel_json_config=config,
            return_projected_pooled=False,
            model_options=model_options or {},
        )


@pytest.fixture(scope="module")
def clip() -> CLIP:
    """The host's CLIP with the host's tokenizer; random weights."""
    target = ClipTarget(SD1Tokenizer, SD1ClipModel)
    target.params = {"clip_model": SmallTextEncoder}
    made = CLIP(target)
    components.randomize(made.cond_stage_model, seed=7)
    return made


@pytest.fixture(scope="module")
def model() -> ModelPatcher:
    return apply_motion_module(components.sd15_model(), components.motion_module())


def plain(clip: CLIP, text: str) -> Conditioning:
    """As core's CLIP Text Encode makes it."""
    return nodes.CLIPTextEncode().encode(clip, text)[0]


def scheduled(clip: CLIP, text: str, num_frames: int, **options: Any) -> Conditioning:
    return encode_schedule(clip, parse_keys(text), num_frames, **options)


def sample(model: ModelPatcher, positive: Conditioning, frames: int, cfg: float = 4.0) -> Tensor:
    return comfy.sample.sample(
        model,
        components.noise(frames),
        2,
        cfg,
        "euler",
        "simple",
        positive,
        components.conditioning(5, tokens=77),
        torch.zeros(frames, 4, 8, 8),
        seed=1,
        disable_pbar=True,
    )


# ---- the rows


def test_what_another_pack_takes_for_no_words_is_named_with_its_line() -> None:
    for words in ("--neg ugly", "(cat:`t*2`)"):
        named = "--neg" if "neg" in words else "`t*2`"
        assert words_of_other_packs(parse_keys(f"0: a cat\n8: a dog {words}")).startswith(
            f"Line 2: {named} is read as words of the prompt."
        )
    assert words_of_other_packs(parse_keys("0: a cat--negative, a `")) is None


def test_each_frame_has_a_row_and_frames_at_keys_have_their_plain_prompts(clip: CLIP) -> None:
    ((rows, options),) = scheduled(clip, f"0: {CAT}\n8: {DOG}", 12)
    ((cat, cat_options),), ((dog, dog_options),) = plain(clip, CAT), plain(clip, DOG)
    assert rows.shape == (12, 77, components.CONTEXT_CHANNELS) and rows.dtype == cat.dtype
    assert options["pooled_output"].shape == (12, components.CONTEXT_CHANNELS)
    for row, pooled, cat_pooled, dog_pooled in (
        (rows, options["pooled_output"], cat_options["pooled_output"], dog_options["pooled_output"]),
    ):
        assert torch.equal(row[:1], cat) and torch.equal(pooled[:1], cat_pooled)
        assert all(torch.equal(row[i : i + 1], dog) for i in range(8, 12))
        torch.testing.assert_close(row[2:3], 0.75 * cat + 0.25 * dog)
        torch.testing.assert_close(pooled[6:7], 0.25 * cat_pooled + 0.75 * dog_pooled)


def test_before_and_after_are_part_of_each_prompt(clip: CLIP) -> None:
    ((rows, _),) = scheduled(clip, "0: cat\n1:", 2, before=" a red ", after="in snow\n")
    assert torch.equal(rows[:1], plain(clip, "a red cat in snow")[0][0])
    assert torch.equal(rows[1:], plain(clip, "a red in snow")[0][0])
    ((empty, _),) = scheduled(clip, "0:", 1)
    assert torch.equal(empty, plain(clip, "")[0][0])


def test_each_prompt_that_a_frame_needs_is_encoded_once(clip: CLIP) -> None:
    def encoded(text: str, interpolation: str) -> int:
        totals: list[tuple[int, int]] = []
        scheduled(
            clip, text, 16, interpolation=interpolation, progress=lambda done, n: totals.append((done, n))
        )
        assert totals == [(i, len(totals)) for i in range(len(totals))]
        return len(totals)

    assert encoded("0: cat\n4: dog\n8: cat\n12: dog", "linear") == 2
    assert encoded("0: cat\n8: dog\n24: fox\n48: hen", "linear") == 3  # the last frames move towards the fox
    assert encoded("0: cat\n8: dog\n24: fox\n48: hen", "hold") == 2
    assert encoded("\n".join(f"{frame}: prompt {frame}" for frame in range(10_000)), "linear") == 16


def test_a_single_prompt_of_a_hundred_kilobytes_is_encoded_as_the_host_does(clip: CLIP) -> None:
    text = "a cat, " * 14_000
    ((rows, _),) = scheduled(clip, f"0: {text}", 2)
    assert rows.shape[1] > 77 * 300 and torch.equal(rows[1:], plain(clip, text.strip())[0][0])


# ---- prompts of other lengths


def test_a_short_prompt_beside_a_long_one_means_what_it_means_alone(clip: CLIP, model: ModelPatcher) -> None:
    ((rows, options),) = scheduled(clip, f"0: {CAT}\n4: {LONG}\n8: {LONGEST}", 9)
    assert rows.shape[1] == 4 * 77 and options["pooled_output"].shape[0] == 9
    x = components.noise(2)
    for frame, text in ((0, CAT), (4, LONG), (8, LONGEST)):
        alone = components.predict(model, x, context=plain(clip, text)[0][0])
        torch.testing.assert_close(components.predict(model, x, context=rows[frame : frame + 1]), alone)


def test_lengths_without_a_common_multiple_in_reach_are_refused_with_what_to_do(clip: CLIP) -> None:
    lengths = [torch.zeros(1, 77 * n, 4) for n in (1, 2, 3, 4)]
    assert {prompt.shape[1] for prompt in of_equal_length(lengths)} == {77 * 12}
    with pytest.raises(ValueError, match="154, 231, 385 tokens.* up to 1540. Shorten the longest"):
        of_equal_length([torch.zeros(1, 77 * n, 4) for n in (2, 3, 5)])


# ---- in the sampler


@pytest.mark.parametrize(("frames", "text"), [(8, CAT), (20, CAT), (20, LONG)])
@pytest.mark.parametrize("interpolation", ["linear", "ease", "hold"])
def test_a_constant_schedule_gives_what_the_plain_prompt_gives(
    clip: CLIP, model: ModelPatcher, frames: int, text: str, interpolation: str
) -> None:
    windowed = set_windows(model, make_windows(WindowSettings(8, 2)))
    constant = scheduled(clip, f"0: {text}\n5: {text}", frames, interpolation=interpolation)
    difference = sample(windowed, constant, frames) - sample(windowed, plain(clip, text), frames)
    assert difference.abs().max() <= 1e-6


def contexts_of_frames(model: ModelPatcher, conds: Conditioning, frames: int) -> dict[int, list[Tensor]]:
    """By frame of the clip, each row that the UNet got for it in a run without guidance."""
    seen: dict[int, list[Tensor]] = {}

    def remember(
        executor: Any,
        x: Tensor,
        t: Tensor,
        concat: None,
        context: Tensor,
        control: None,
        options: dict,
        **more: Any,
    ) -> Tensor:
        window = options.get("context_window")
        indices = window.index_list if window else range(frames)
        for chunk in context.split(len(indices)):  # regions, one after the other
            for frame, row in zip(indices, chunk, strict=True):
                seen.setdefault(frame, []).append(row)
        return executor(x, t, concat, context, control, options, **more)

    watched = model.clone()
    watched.add_wrapper_with_key("apply_model", "test", remember)
    sample(watched, conds, frames, cfg=1.0)
    return seen


@pytest.mark.parametrize("schedule", WINDOWS)
@pytest.mark.parametrize("motion_layers_only", [False, True])
def test_in_context_windows_each_frame_gets_its_own_row(
    clip: CLIP, model: ModelPatcher, schedule: str, motion_layers_only: bool
) -> None:
    windows = make_windows(
        WindowSettings(8, 2, schedule, context_stride=2, motion_layers_only=motion_layers_only)
    )
    conds = scheduled(clip, f"0: {CAT}\n19: {DOG}", 20)
    seen = contexts_of_frames(set_windows(model, windows), conds, 20)
    assert sorted(seen) == list(range(20))
    for frame, rows in seen.items():
        assert all(torch.equal(row, conds[0][0][frame]) for row in rows)


def test_regions_and_parts_of_the_run_have_schedules_of_their_own(clip: CLIP, model: ModelPatcher) -> None:
    left, right = torch.zeros(1, 8, 8), torch.zeros(1, 8, 8)
    left[..., :4], right[..., 4:] = 1, 1
    first, second = scheduled(clip, f"0: {CAT}\n19: {DOG}", 20), scheduled(clip, f"0: {DOG}\n9: {CAT}", 20)
    regions = [
        nodes.ConditioningSetMask().append(conds, mask, "default", 1.0)[0]
        for conds, mask in ((first, left), (second, right))
    ]
    (combined,) = nodes.ConditioningCombine().combine(*regions)
    seen = contexts_of_frames(set_windows(model, make_windows(WindowSettings(8, 2))), combined, 20)
    for frame, rows in seen.items():
        assert {tuple(row.flatten().tolist()) for row in rows} == {
            tuple(conds[0][0][frame].flatten().tolist()) for conds in (first, second)
        }
    late = nodes.ConditioningSetTimestepRange().set_range(second, 0.5, 1.0)[0]
    early = nodes.ConditioningSetTimestepRange().set_range(first, 0.0, 0.5)[0]
    seen = contexts_of_frames(set_windows(model, make_windows(WindowSettings(8, 2))), early + late, 20)
    assert torch.equal(seen[10][0], first[0][0][10]) and torch.equal(seen[10][-1], second[0][0][10])


def test_loras_scheduled_on_the_clip_give_one_conditioning_for_each_part_of_the_run(clip: CLIP) -> None:
    key = "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
    weight = clip.patcher.model_state_dict()[key]
    hooks = comfy.hooks.HookGroup()
    hook = comfy.hooks.WeightHook(strength_model=1.0, strength_clip=1.0)
    hook.weights_clip = {key: ("diff", (torch.ones_like(weight),))}
    hook.need_weight_init = False
    hooks.add(hook)
    frames = comfy.hooks.HookKeyframeGroup()
    frames.add(comfy.hooks.HookKeyframe(strength=1.0, start_percent=0.0))
    frames.add(comfy.hooks.HookKeyframe(strength=0.0, start_percent=0.5))
    hooks.set_keyframes_on_hooks(frames)
    hooked = clip.clone(disable_dynamic=True)
    hooked.patcher.forced_hooks = hooks
    hooked.use_clip_schedule = True
    hooked.patcher.register_all_hook_patches(
        hooks, comfy.hooks.create_target_dict(comfy.hooks.EnumWeightTarget.Clip)
    )
    both = scheduled(hooked, f"0: {CAT}\n4: {DOG}", 8)
    alone = plain(hooked, CAT)
    assert len(both) == len(alone) == 2
    for (rows, options), (cat, cat_options) in zip(both, alone, strict=True):
        assert torch.equal(rows[:1], cat)
        assert options["clip_start_percent"] == cat_options["clip_start_percent"]
    assert not torch.equal(both[0][0], both[1][0])
    assert torch.equal(both[1][0][:1], plain(clip, CAT)[0][0])


def test_a_schedule_for_another_number_of_frames_is_refused_with_both_numbers(clip: CLIP) -> None:
    named = {FRAMES: 48}
    message = "prompts for 48 frames, the latent has 16. Set num_frames of Prompt Schedule to 16."
    conds = {"positive": [{}], "negative": [{}, named]}
    with pytest.raises(ValueError, match=message):
        check_frames_of_prompts(conds, 16)
    check_frames_of_prompts(conds, 48)
    check_frames_of_prompts({"positive": plain(clip, CAT)[0][1:]}, 16)


@pytest.mark.parametrize("frames", [4, 20])
def test_a_sampler_refuses_a_schedule_for_another_number_of_frames(
    clip: CLIP, model: ModelPatcher, frames: int
) -> None:
    model = set_windows(model, make_windows(WindowSettings(8, 2)))
    with pytest.raises(ValueError, match=f"prompts for 12 frames, the latent has {frames}"):
        sample(model, scheduled(clip, f"0: {CAT}\n9: {DOG}", 12), frames)


@pytest.mark.parametrize("weight", ["1e400", "-1e39", "nan"])
def test_a_weight_that_makes_infinite_numbers_is_named(clip: CLIP, weight: str) -> None:
    with pytest.raises(
        ValueError, match=f"The prompt a \\(cat:{weight}\\) became.*weight is (-?inf|nan|-1e\\+39):"
    ):
        encode_schedule(clip, parse_keys(f"0: a (dog:5)\n4: a (cat:{weight})"), 5)
