"""Advanced-ControlNet's keyframes: a strength for each frame, or a sentence that says what was lost."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fast_animatediff.replacements.convert import Conversion, convert
from fast_animatediff.tests.replacements.test_convert import node, only
from fast_animatediff.tests.workflows.graphs import Prompt

APPLY = {"image": ["8", 0], "strength": 0.8, "start_percent": 0.0, "end_percent": 1.0}


def controlled(
    keyframes: Prompt, apply: str = "ControlNetApplyAdvanced", frames: Any = 6, **inputs: Any
) -> Prompt:
    """A workflow whose loader has the keyframe "kf", if there is one, and whose sampler makes some frames."""
    on_loader = {"timestep_keyframe": ["kf", 0]} if "kf" in keyframes else {}
    return {
        "6": node("EmptyLatentImage", width=64, height=64, batch_size=frames),
        "7": node("CLIPTextEncode", text=""),
        "10": node("ControlNetLoaderAdvanced", control_net_name="canny.safetensors", **on_loader),
        "11": node(apply, positive=["7", 0], negative=["7", 0], control_net=["10", 0], **APPLY, **inputs),
        "12": node("KSampler", positive=["11", 0], negative=["11", 1], latent_image=["6", 0]),
        **keyframes,
    }


def schedule(conversion: Conversion) -> tuple[str, Any]:
    """The schedule that the only ControlNet Strength gets, after a look at what is connected to it."""
    strength = only(conversion, "FAD_ControlNetStrength")
    applied, slot = strength["positive"]
    assert conversion.document[applied]["class_type"].startswith("ControlNetApply") and slot == 0
    sampler = only(conversion, "KSampler")
    made, _ = sampler["positive"]
    assert conversion.document[made]["class_type"] == "FAD_ControlNetStrength"
    assert sampler["negative"] == [made, 1]
    found = only(conversion, "FAD_ValueSchedule")
    assert found["interpolation"] == "hold"
    return found["schedule"], found["num_frames"]


def test_frames_without_a_keyframe_have_no_control_and_others_their_own() -> None:
    conversion = convert(
        controlled(
            {
                "a": node("LatentKeyframe", batch_index=0, strength=1.0),
                "b": node("LatentKeyframe", batch_index=3, strength=0.25, prev_latent_kf=["a", 0]),
                "kf": node("TimestepKeyframe", start_percent=0.0, strength=2.0, latent_keyframe=["b", 0]),
            }
        )
    )
    assert schedule(conversion) == ("0: 2, 1: 0, 3: 0.5, 4: 0", 6)
    assert conversion.notes == [] and conversion.left == []


@pytest.mark.parametrize(
    "kind, expected",
    [
        ("linear", "0: 0.1, 2: 0, 3: 0.25, 4: 0.5, 5: 1"),
        ("ease-in", "0: 0.1, 2: 0, 3: 0.0625, 4: 0.25, 5: 1"),
    ],
)
def test_a_range_of_keyframes_is_written_out(kind: str, expected: str) -> None:
    conversion = convert(
        controlled(
            {
                "one": node("LatentKeyframe", batch_index=5, strength=1.0),
                "t": node(
                    "LatentKeyframeTiming", batch_index_from=2, batch_index_to_excl=7, strength_from=0.0,
                    strength_to=1.0, interpolation=kind, prev_latent_keyframe=["one", 0],
                ),
                "kf": node("TimestepKeyframe", latent_keyframe=["t", 0], null_latent_kf_strength=0.1),
            }
        )
    )  # fmt: skip
    assert schedule(conversion) == (expected, 6)


def test_a_list_of_keyframes_is_written_out() -> None:
    group = node("LatentKeyframeGroup", index_strengths="0, 2:4=0.5, 5=2")
    conversion = convert(
        controlled({"g": group, "kf": node("TimestepKeyframe", latent_keyframe=["g", 0], strength=1.0)})
    )
    assert schedule(conversion) == ("0: 1, 1: 0, 2: 0.5, 4: 0, 5: 2", 6)


def test_a_keyframe_without_frames_is_one_strength() -> None:
    conversion = convert(controlled({"kf": node("TimestepKeyframe", strength=0.5, mask_optional=["20", 0])}))
    inputs = only(conversion, "FAD_ControlNetStrength")
    assert (inputs["strength"], inputs["mask"]) == (0.5, ["20", 0])
    assert "strength_per_frame" not in inputs


def test_a_keyframe_that_changes_nothing_makes_no_node() -> None:
    conversion = convert(controlled({"kf": node("TimestepKeyframe", start_percent=0.0)}))
    assert not any(entry["class_type"] == "FAD_ControlNetStrength" for entry in conversion.document.values())
    assert conversion.notes == []


@pytest.mark.parametrize("apply", ["ACN_AdvancedControlNetApply", "ACN_AdvancedControlNetApply_v2"])
def test_keyframes_and_masks_on_apply_itself_are_carried_over(apply: str) -> None:
    keyframes = {
        "a": node("LatentKeyframe", batch_index=1, strength=0.5),
        "own": node("TimestepKeyframe", latent_keyframe=["a", 0]),
    }
    inputs = {"timestep_kf": ["own", 0], "mask_optional": ["20", 0]}
    conversion = convert(controlled(keyframes, apply, **inputs))
    assert schedule(conversion) == ("0: 0, 1: 0.5, 2: 0", 6)
    assert only(conversion, "FAD_ControlNetStrength")["mask"] == ["20", 0]
    assert conversion.notes == [] and conversion.left == []


def test_the_loaders_keyframes_reach_an_apply_of_the_same_pack() -> None:
    keyframes = {
        "a": node("LatentKeyframe", batch_index=1, strength=0.5),
        "kf": node("TimestepKeyframe", latent_keyframe=["a", 0]),
    }
    conversion = convert(controlled(keyframes, "ACN_AdvancedControlNetApply"))
    assert schedule(conversion) == ("0: 0, 1: 0.5, 2: 0", 6)


def test_a_strength_that_changes_during_sampling_is_named() -> None:
    conversion = convert(
        controlled(
            {
                "early": node("TimestepKeyframe", start_percent=0.0, strength=0.5),
                "kf": node(
                    "TimestepKeyframe", start_percent=0.4, strength=0.1, prev_timestep_kf=["early", 0]
                ),
            }
        )
    )
    assert only(conversion, "FAD_ControlNetStrength")["strength"] == 0.5
    assert ["changes during sampling" in note.text for note in conversion.notes] == [True]


def test_a_clip_of_unknown_length_is_named() -> None:
    keyframes = {
        "a": node("LatentKeyframe", batch_index=40, strength=0.5),
        "kf": node("TimestepKeyframe", latent_keyframe=["a", 0]),
    }
    conversion = convert(controlled(keyframes, frames=1))
    assert schedule(conversion) == ("0: 0, 40: 0.5", 41)
    assert [note.text for note in conversion.notes] == [
        "set num_frames of its Value Schedule to the number of frames; 41 was set."
    ]


def test_a_length_by_a_link_stays_linked() -> None:
    keyframes = {
        "a": node("LatentKeyframe", batch_index=1, strength=0.5),
        "kf": node("TimestepKeyframe", latent_keyframe=["a", 0]),
    }
    conversion = convert(controlled(keyframes, frames=["30", 0]))
    assert schedule(conversion) == ("0: 0, 1: 0.5, 2: 0", ["30", 0])


@pytest.mark.parametrize(
    "keyframes, lost",
    [
        ({"k": node("LatentKeyframe", batch_index=-1, strength=0.5)}, "counted from the end"),
        ({"k": node("LatentKeyframe", batch_index=["30", 0], strength=0.5)}, "batch_index is connected"),
        ({"k": node("LatentKeyframe", batch_index=math.nan, strength=0.5)}, "batch_index is nan"),
        (
            {"k": node("LatentKeyframe", batch_index=0, strength=30)},
            "a strength of 30 is out of range: 10 was set",
        ),
        ({"k": node("LatentKeyframeGroup", index_strengths="-3:9, x")}, "the keyframe '-3:9'"),
        ({"k": node("LatentKeyframeGroup", index_strengths="0=1.2.3")}, "the keyframe '0=1.2.3'"),
        ({"k": node("LatentKeyframeBatchedGroup", float_strengths=["30", 0])}, "these keyframes"),
    ],
)
def test_keyframes_that_have_no_counterpart_are_named(keyframes: Prompt, lost: str) -> None:
    conversion = convert(controlled({**keyframes, "kf": node("TimestepKeyframe", latent_keyframe=["k", 0])}))
    assert any(lost in note.text for note in conversion.notes)


@pytest.mark.parametrize("frames", [10**15, [], {"a": 1}, "six"])
def test_an_odd_number_of_frames_does_not_stop_it(frames: Any) -> None:
    keyframes = {
        "k": node("LatentKeyframe", batch_index=10**16, strength=0.5),
        "kf": node("TimestepKeyframe", latent_keyframe=["k", 0], null_latent_kf_strength=0.5),
    }
    assert schedule(convert(controlled(keyframes, frames=frames)))[0] == "0: 0.5"


def test_keyframes_in_a_circle_and_endless_ranges_end() -> None:
    conversion = convert(
        controlled(
            {
                "a": node("LatentKeyframe", batch_index=1, strength=0.5, prev_latent_kf=["t", 0]),
                "t": node(
                    "LatentKeyframeTiming", batch_index_from=0, batch_index_to_excl=9007199254740991,
                    strength_from=1.0, strength_to=1.0, prev_latent_kf=["a", 0],
                ),
                "kf": node("TimestepKeyframe", latent_keyframe=["a", 0]),
            }
        )
    )  # fmt: skip
    assert schedule(conversion) == ("0: 1, 1: 0.5, 2: 1", 6)
