"""Prompts that no person would write, in which a conversion must not lose itself."""

from __future__ import annotations

import time

from fast_animatediff.replacements.convert import convert
from fast_animatediff.tests.replacements.test_convert import loaded, node, only, with_sampler


def test_models_that_go_in_a_circle_and_ones_that_split_many_times_are_converted() -> None:
    ring = {"a": node("FAD_ContextWindows", model=["b", 0]), "b": node("FAD_ContextWindows", model=["a", 0])}
    conversion = convert({**ring, "c": node("ADE_AnimateDiffUnload", model=["a", 0])})
    assert [note.type for note in conversion.notes] == ["ADE_AnimateDiffUnload"]
    cfg = {
        "5": node("ADE_CustomCFGSimple", cfg=3.0),
        "6": node("ADE_AnimateDiffSamplingSettings", custom_cfg=["5", 0]),
        "9": loaded(sample_settings=["6", 0]),
    }
    last = "9"
    for number in range(100, 160):  # each gets the model twice
        cfg[str(number)] = node("ModelMerge", **{"model": [last, 0], "": [last, 0]})
        last = str(number)
    prompt = with_sampler(**cfg)
    prompt["99"]["inputs"]["model"] = [last, 0]
    assert only(convert(prompt), "KSampler")["cfg"] == 3.0


def test_a_long_chain_of_settings_does_not_keep_the_server_from_its_other_work() -> None:
    chain = {
        f"lora {number}": node(
            "ADE_AnimateDiffLoRALoader", name="x", strength=1.0, prev_motion_lora=[f"lora {number - 1}", 0]
        )
        for number in range(400)
    }
    began = time.process_time()
    conversion = convert({**chain, "1": loaded(motion_lora=["lora 399", 0])})
    assert time.process_time() - began < 5.0, "it is a tenth of a second; each against each is 40"
    assert len(conversion.replaced) == 401


def test_a_thousand_nodes_take_as_long_as_a_thousand_times_one() -> None:
    loaders = {
        f"{kind} {number}": entry
        for number in range(1000)
        for kind, entry in {
            "motion": loaded(),
            "sampler": node("KSampler", model=[f"motion {number}", 0], seed=1),
            "video": node("VHS_LoadVideo", video="a.mp4", force_rate=8),
            "preview": node("PreviewImage", images=[f"video {number}", 0]),
        }.items()
    }
    began = time.process_time()
    conversion = convert({"1": node("CheckpointLoaderSimple", ckpt_name="a"), **loaders})
    assert time.process_time() - began < 2.0, "it is a third of a second; a search for each is 7"
    assert len(conversion.replaced) == 2000


def test_a_chain_of_two_thousand_loras_is_converted() -> None:
    chain = {
        f"lora {number}": node(
            "ADE_AnimateDiffLoRALoader", name="x", strength=1.0, prev_motion_lora=[f"lora {number - 1}", 0]
        )
        for number in range(2000)
    }
    conversion = convert({**chain, "1": loaded(motion_lora=["lora 1999", 0])})
    assert len(conversion.replaced) == 2001
