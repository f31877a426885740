from __future__ import annotations

import components
import pytest
import torch

from fast_animatediff.motion_modules.adapter import apply_motion_module
from fast_animatediff.motion_modules.motion_settings import MotionSettings
from fast_animatediff.nodes.motion import ApplyMotionModule
from fast_animatediff.nodes.node_text import MARKUP
from fast_animatediff.nodes.schedules import PromptSchedule, ValueSchedule


def run(schedule: str, clip: object = None) -> None:
    PromptSchedule.execute(clip, schedule, 16, "", "", "linear")


def test_a_checkpoint_without_text_encoder_is_told_what_to_connect() -> None:
    with pytest.raises(ValueError, match="no text encoder. Connect clip to Load CLIP"):
        run("0: a cat")


def test_a_bad_line_is_refused_before_anything_is_encoded() -> None:
    with pytest.raises(ValueError, match="Line 2: expected a key"):
        run("0: a cat\na dog", clip=object())


def test_prompts_are_shown_on_the_node_as_they_were_written() -> None:
    text = "<b>__a__</b> *c* [x](y) `z` & \\(d\\) ~~e~~"
    assert not set(text.translate(MARKUP)) & set("<>*_`[\\~")


def test_a_schedule_of_numbers_reaches_the_motion_module_in_cores_own_type() -> None:
    from comfy_extras.nodes_hooks import CreateHookKeyframesFromFloats

    floats = ValueSchedule.execute("0: 0.2, 3: 0.8", 4, "linear").args[0]
    assert floats == pytest.approx([0.2, 0.4, 0.6, 0.8])
    (output,) = ValueSchedule.define_schema().outputs
    assert CreateHookKeyframesFromFloats.INPUT_TYPES()["required"]["floats_strength"][0] == output.io_type
    settings = (0.5, 1.0, "auto", 0.0, 1.0)
    model, module = components.sd15_model(), components.motion_module()
    applied = ApplyMotionModule.execute(
        model, module, *settings, cpu_bf16=False, strength_per_frame=floats
    ).args[0]
    expected = apply_motion_module(model, module, MotionSettings(floats))
    x = components.noise(4)
    assert torch.equal(components.predict(applied, x), components.predict(expected, x))


def test_keys_beyond_the_clip_are_told(caplog: pytest.LogCaptureFixture) -> None:
    ValueSchedule.execute("0: 0, 99: 1", 4, "linear")
    assert "Value Schedule: Keys beyond the clip, which ends at frame 3: 99." in caplog.text
