from __future__ import annotations

import asyncio
import logging
import re

import components
import pytest
import torch
from PIL import Image

import comfy.model_management
import folder_paths
from fast_animatediff.motion_modules.adapter import apply_motion_module
from fast_animatediff.motion_modules.folders import MOTION_LORAS, MOTION_MODULES, register_model_folders
from fast_animatediff.nodes.load_video import LoadVideoFrames
from fast_animatediff.nodes.loaders import LoadMotionModule, MotionLora
from fast_animatediff.nodes.motion import ApplyMotionModule, ContextWindows
from fast_animatediff.nodes.sampling import EmptyVideoLatent, Sampler


@pytest.fixture
def model_folders(tmp_path, monkeypatch):
    """A user's model folders with one motion module and one motion LoRA in them."""
    for key in (MOTION_MODULES, MOTION_LORAS):
        (tmp_path / key).mkdir()
        entry = ([str(tmp_path / key)], folder_paths.supported_pt_extensions)
        monkeypatch.setitem(folder_paths.folder_names_and_paths, key, entry)
    components.save(components.original_weights(), tmp_path / MOTION_MODULES / "mm_sd15_v2.safetensors")
    components.save(components.motion_lora(), tmp_path / MOTION_LORAS / "zoom.safetensors")
    (tmp_path / MOTION_MODULES / "readme.txt").write_text("not a model")
    return tmp_path


def options(node, name):
    (found,) = (socket for socket in node.define_schema().inputs if socket.id == name)
    return found.options


def test_the_combos_list_the_users_weights_and_nothing_else(model_folders):
    assert options(LoadMotionModule, "motion_module") == ["mm_sd15_v2.safetensors"]
    assert options(MotionLora, "motion_lora") == ["zoom.safetensors"]


def test_from_files_to_a_sampled_clip(model_folders):
    motion_module = LoadMotionModule.execute("mm_sd15_v2.safetensors").args[0]
    first = MotionLora.execute("zoom.safetensors", 1.0).args[0]
    both = MotionLora.execute("zoom.safetensors", -0.5, previous=first).args[0]
    assert [lora.strength for lora in both] == [1.0, -0.5]
    model = ApplyMotionModule.execute(
        components.sd15_model(), motion_module, 1.0, 1.0, "auto", 0.0, 1.0, motion_lora=both
    ).args[0]
    model = ContextWindows.execute(model, 8, 2, "standard_static", "pyramid", False, False, 1).args[0]
    latent = EmptyVideoLatent.execute("custom", 64, 64, 12).args[0]
    cond, uncond = components.conditioning(3), components.conditioning(5)
    result = Sampler.execute(model, cond, uncond, latent, 1, 2, 3.0, 1.0, "auto", "auto", "auto", 1.0).args[0]
    assert result["samples"].shape == (12, 4, 8, 8) and torch.isfinite(result["samples"]).all()


@pytest.mark.parametrize(
    ("video_size", "expected"),
    [
        ("square 512x512", (64, 64)),
        ("portrait_16_9 576x1024", (128, 72)),
        ("landscape_4_3 1024x768", (96, 128)),
        ("custom", (11, 9)),
    ],
)
def test_presets_and_custom_sizes(video_size, expected):
    latent = EmptyVideoLatent.execute(video_size, 72, 88, 5).args[0]
    assert latent["samples"].shape == (5, 4, *expected)


def test_a_size_that_is_no_multiple_of_8_is_told_its_neighbours():
    with pytest.raises(ValueError, match="height 500 is not a multiple of 8; use 496 or 504"):
        EmptyVideoLatent.execute("custom", 512, 500, 16)


def test_a_file_that_went_away_is_named(model_folders):
    (model_folders / MOTION_MODULES / "mm_sd15_v2.safetensors").unlink()
    with pytest.raises(ValueError, match="mm_sd15_v2.safetensors is not in models/animatediff_models"):
        LoadMotionModule.execute("mm_sd15_v2.safetensors")


@pytest.mark.parametrize(
    "asked", ["sub\\deep\\mm.safetensors", "sub/deep/mm.safetensors", "sub\\deep/mm.safetensors"]
)
def test_a_shared_workflow_may_name_a_file_with_either_systems_separators(model_folders, asked):
    for node, folder, weights in (
        (LoadMotionModule, MOTION_MODULES, components.original_weights()),
        (MotionLora, MOTION_LORAS, components.motion_lora()),
    ):
        (model_folders / folder / "sub" / "deep").mkdir(parents=True)
        components.save(weights, model_folders / folder / "sub" / "deep" / "mm.safetensors")
        assert node.validate_inputs(asked) is True and node.validate_inputs(None) is True
        assert node.execute(*((asked,) if node is LoadMotionModule else (asked, 1.0))).args[0]


@pytest.mark.parametrize("asked", ["..\\secret.safetensors", "../secret.safetensors", "gone.safetensors", ""])
def test_a_file_outside_the_list_is_refused(model_folders, asked):
    components.save(components.motion_lora(), model_folders / "secret.safetensors")
    assert "is not in models/animatediff_motion_lora" in MotionLora.validate_inputs(asked)
    assert "is not in models/animatediff_models" in LoadMotionModule.validate_inputs(asked)


def test_a_clip_that_memory_can_not_hold_is_refused_with_what_fits(monkeypatch):
    free = 8_000_000_000
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: free)
    with pytest.raises(
        ValueError, match="4096 frames of 4096x4096 need .* GB .*8.0 GB is free.*frames fit"
    ) as error:
        EmptyVideoLatent.execute("custom", 4096, 4096, 4096)
    fits = int(re.search(r"(\d+) frames fit", str(error.value))[1])
    assert 0 < fits * 4 * 512 * 512 * 4 * 4 <= free
    with pytest.raises(ValueError, match="frames fit"):
        EmptyVideoLatent.execute("custom", 4096, 4096, fits + 1)


def shown_on_node(execute):
    """The last text that the page which asked for the run gets for node 7 meanwhile."""
    from comfy_execution.utils import CurrentNodeContext
    from server import BinaryEventTypes, PromptServer

    loop = asyncio.new_event_loop()
    server, logger = PromptServer(loop), logging.getLogger("fast_animatediff")
    server.client_id = "page"
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        with CurrentNodeContext("prompt", "7", 0):
            execute()
    finally:
        logger.setLevel(level)
    loop.run_until_complete(asyncio.sleep(0))
    sent = [server.messages.get_nowait() for _ in range(server.messages.qsize())]
    texts = [
        data[5:].decode()
        for event, data, client in sent
        if event == BinaryEventTypes.TEXT and data[:5] == b"\0\0\0\x017" and client == "page"
    ]
    return texts[-1]


def test_what_the_engine_logs_is_shown_on_the_running_node_warnings_first():
    model, latent = components.sd15_model(), EmptyVideoLatent.execute("custom", 64, 64, 2).args[0]
    cond = components.conditioning(3)
    text = shown_on_node(
        lambda: Sampler.execute(model, cond, cond, latent, 1, 4, 1.0, 0.2, "auto", "auto", "auto", 1.0)
    )
    assert text.startswith("No step runs: 4 steps at strength 0.2")
    assert "no motion module" in text and text.endswith(
        "0 of 4 steps, mode standard, sampler euler, scheduler linspace"
    )


def test_what_is_odd_about_a_clip_is_shown_on_the_node_that_reads_it(folders):
    walk = folders / "input" / "walk"
    walk.mkdir()
    for number in (1, 2, 5, 6):
        Image.new("RGB", (64, 64)).save(walk / f"{number}.png")
    text = shown_on_node(lambda: LoadVideoFrames.execute("walk/", 0.0, 8.0, 0.0, "source", 0))
    loaded = "4 frames, 64x64, at 8 fps"
    gap = "walk/ has no pictures between 2.png and 5.png. The others play one after the other."
    assert text.splitlines() == [f"{gap}  ", loaded]
    for old, new in ((5, 3), (6, 4)):
        (walk / f"{old}.png").rename(walk / f"{new}.png")
    assert shown_on_node(lambda: LoadVideoFrames.execute("walk/", 0.0, 8.0, 0.0, "source", 0)) == loaded


def test_apply_motion_module_shows_its_warnings_on_the_node_and_a_line_without_any():
    model, module = components.sd15_model(), components.motion_module()
    plain = shown_on_node(lambda: ApplyMotionModule.execute(model, module, 0.5, 1.0, "auto", 0.0, 1.0))
    assert plain == "test.safetensors (AnimateDiff v2), strength 0.5, sqrt&#95;linear"
    model = model.clone()
    model.add_object_patch("model_sampling", model.get_model_object("model_sampling"))
    text = shown_on_node(
        lambda: ApplyMotionModule.execute(model, module, 1.0, 1.0, "auto", 0.0, 1.0, compile_motion=True)
    )
    assert "no effect: connect TorchCompileModel" in text and "noise schedule set before" in text


def test_a_clip_that_is_windowed_automatically_says_so_on_the_sampler():
    model = apply_motion_module(components.sd15_model(), components.motion_module())
    latent, cond = EmptyVideoLatent.execute("custom", 64, 64, 40).args[0], components.conditioning(3)
    text = shown_on_node(
        lambda: Sampler.execute(model, cond, cond, latent, 1, 1, 1.0, 1.0, "auto", "auto", "auto", 1.0)
    )
    assert "40 frames are more than test.safetensors renders at once: context windows of 16 frames" in text


def test_cores_sampler_says_it_too_and_a_shorter_clip_takes_the_text_away():
    from nodes import KSampler

    model = apply_motion_module(components.sd15_model(), components.motion_module())
    cond = components.conditioning(3)

    def text(frames):
        latent = EmptyVideoLatent.execute("custom", 64, 64, frames).args[0]
        return shown_on_node(
            lambda: KSampler().sample(model, 1, 1, 1.0, "euler", "normal", cond, cond, latent)
        )

    assert text(40).startswith("40 frames are more than test.safetensors renders at once")
    assert text(8) == "8 frames in one piece"


def test_folders_that_the_user_configured_are_kept_and_searched_first(tmp_path, monkeypatch):
    monkeypatch.setitem(folder_paths.folder_names_and_paths, MOTION_MODULES, ([str(tmp_path)], set()))
    register_model_folders()
    paths, extensions = folder_paths.folder_names_and_paths[MOTION_MODULES]
    assert paths[0] == str(tmp_path) and len(paths) == 2 and ".safetensors" in extensions


def test_registering_leaves_the_hosts_shared_extensions_as_they_are():
    before = set(folder_paths.supported_pt_extensions)
    register_model_folders()
    assert folder_paths.supported_pt_extensions == before
    assert folder_paths.folder_names_and_paths["checkpoints"][1] is folder_paths.supported_pt_extensions
