"""Requests in API prompts: every value at its place, by titles; workflows that don't fit are refused with a reason."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comfy.k_diffusion.sampling import default_noise_sampler
from fast_animatediff.endpoints.comfyui.filling import FOLDER, Filled, check, fill, frame_size, load_workflows
from fast_animatediff.endpoints.protocol.schemas import ENDPOINTS, ImageSize, validate, with_seed
from fast_animatediff.endpoints.settings import Settings
from fast_animatediff.tests.workflows.graphs import Prompt, inputs, node_id
from fast_animatediff.video.size import PRESETS

APP = "fal-ai/fast-animatediff"
V2V, T2V = f"{APP}/video-to-video", f"{APP}/text-to-video"
TURBO_V2V, TURBO_T2V = f"{APP}/turbo/video-to-video", f"{APP}/turbo/text-to-video"
BASE = {"prompt": "a panda", "negative_prompt": "rain", "video_url": "https://example.com/a.mp4", "seed": 7}


def workflow_of(endpoint: str) -> Prompt:
    return load_workflows(Settings())[endpoint]


def filled(endpoint: str, values: dict[str, Any] | None = None, **settings: Any) -> Filled:
    request = with_seed(validate(ENDPOINTS[endpoint], BASE | (values or {})))
    filled = fill(ENDPOINTS[endpoint], workflow_of(endpoint), request, Settings(**settings))
    if ENDPOINTS[endpoint].takes_video:
        filled.set_video("x/clip.mp4")
    return filled


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_texts_seed_steps_and_guidance_arrive(endpoint: str) -> None:
    prompt = filled(endpoint, {"num_inference_steps": 11, "guidance_scale": 3.5}).prompt
    assert inputs(prompt, "Prompt")["text"] == "a panda"
    assert inputs(prompt, "Negative Prompt")["text"] == "rain"
    sampler = inputs(prompt, "AnimateDiff Sampler")
    assert (sampler["seed"], sampler["steps"], sampler["cfg"]) == (7, 11, 3.5)


@pytest.mark.parametrize("seed", [0, 7, 2**32, 2**63 - 1])
def test_a_usual_seed_is_used_as_it_is(seed: int) -> None:
    assert inputs(filled(T2V, {"seed": seed}).prompt, "AnimateDiff Sampler")["seed"] == seed


@pytest.mark.parametrize("seed", [-1, -2, -(2**63), 2**63, 2**64 - 1, 2**64 - 2, 2**64, 10**30])
def test_any_seed_is_one_that_the_hosts_samplers_can_add_to(seed: int) -> None:
    made = filled(T2V, {"seed": seed})
    used = inputs(made.prompt, "AnimateDiff Sampler")["seed"]
    noise = default_noise_sampler(torch.zeros(1, 4, 8, 8), seed=used)
    assert noise(1.0, 0.5).shape == (1, 4, 8, 8) and torch.Generator().manual_seed(used + 10**6)
    assert made.seed == seed, "the result names the seed that was asked for"


@pytest.mark.parametrize(("asked", "used"), [(0, 1.0), (0.5, 1.0), (1, 1.0), (1.5, 1.5)])
def test_no_guidance_follows_the_prompt_alone_and_never_the_negative_one(asked: float, used: float) -> None:
    assert inputs(filled(T2V, {"guidance_scale": asked}).prompt, "AnimateDiff Sampler")["cfg"] == used


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_the_defaults_of_the_request_are_those_of_its_workflow(endpoint: str) -> None:
    """The same graph in the page and behind the endpoint: an unchanged request changes texts, seed and video only."""
    prompt, original = filled(endpoint).prompt, workflow_of(endpoint)
    sampler, before = inputs(prompt, "AnimateDiff Sampler"), inputs(original, "AnimateDiff Sampler")
    assert sampler | {"seed": 0} == before | {"seed": 0}
    assert inputs(prompt, "Export Video") == inputs(original, "Export Video")
    if ENDPOINTS[endpoint].takes_video:
        loader = inputs(prompt, "Load Video Frames")
        assert loader | {"file": ""} == inputs(original, "Load Video Frames") | {"file": ""}


@pytest.mark.parametrize("endpoint", [V2V, TURBO_V2V])
def test_a_video_arrives_with_its_seconds_rate_and_strength(endpoint: str) -> None:
    prompt = filled(endpoint, {"first_n_seconds": 4, "fps": 16, "strength": 0.5}).prompt
    loader = inputs(prompt, "Load Video Frames")
    assert (loader["file"], loader["first_n_seconds"], loader["fps"]) == ("x/clip.mp4", 4, 16)
    assert inputs(prompt, "AnimateDiff Sampler")["strength"] == 0.5
    assert inputs(prompt, "Export Video")["fps"] == [node_id(prompt, "Load Video Frames"), 1]


@pytest.mark.parametrize("endpoint", [T2V, TURBO_T2V])
def test_a_clip_gets_its_frames_rate_and_size(endpoint: str) -> None:
    prompt = filled(endpoint, {"num_frames": 24, "fps": 12, "video_size": "landscape_16_9"}).prompt
    latent = inputs(prompt, "Empty Video Latent")
    assert latent == {"video_size": "custom", "width": 1024, "height": 576, "num_frames": 24}
    assert inputs(prompt, "Export Video")["fps"] == 12


@pytest.mark.parametrize(
    ("steps", "strength", "said"),
    [(25, 0.7, "17 of 25"), (12, 0.7, "8 of 12"), (1, 0.5, "comes back unchanged")],
)
def test_the_log_says_how_many_steps_run(steps: int, strength: float, said: str) -> None:
    notes = filled(V2V, {"num_inference_steps": steps, "strength": strength}).notes
    assert said in "\n".join(notes)


def test_motions_become_a_chain_of_motion_loras() -> None:
    prompt = filled(V2V, {"motions": ["zoom-in", "pan-left", "tilt-up"]}).prompt
    link, files = inputs(prompt, "Apply Motion Module")["motion_lora"], []
    while link:
        node = prompt[link[0]]
        assert node["class_type"] == "FAD_MotionLora" and node["inputs"]["strength"] == 1.0
        files.insert(0, node["inputs"]["motion_lora"])
        link = node["inputs"].get("previous")
    assert files == ["v2_lora_ZoomIn.ckpt", "v2_lora_PanLeft.ckpt", "v2_lora_TiltUp.ckpt"]


def test_every_motion_has_a_file_that_can_be_downloaded() -> None:
    listed = json.loads((FOLDER.parent / "models" / "models.json").read_text(encoding="utf-8"))
    names = {entry["name"] for entry in listed["models"]}
    motions = ["zoom-out", "zoom-in", "pan-left", "pan-right", "tilt-up", "tilt-down"]
    prompt = filled(T2V, {"motions": motions}).prompt
    files = [n["inputs"]["motion_lora"] for n in prompt.values() if n["class_type"] == "FAD_MotionLora"]
    assert len(set(files)) == 6 and set(files) <= names


def test_motions_follow_a_lora_of_the_owners_own_and_use_the_owners_files() -> None:
    workflow = workflow_of(V2V)
    lora = {
        "class_type": "FAD_MotionLora",
        "inputs": {"motion_lora": "own", "strength": 0.5},
        "_meta": {"title": "Mine"},
    }
    workflow["99"] = lora
    inputs(workflow, "Apply Motion Module")["motion_lora"] = ["99", 0]
    request = with_seed(validate(ENDPOINTS[V2V], BASE | {"motions": ["zoom-in"]}))
    settings = Settings(motion_loras={"zoom-in": "my/zoom.safetensors"})
    prompt = fill(ENDPOINTS[V2V], workflow, request, settings).prompt
    assert inputs(prompt, "Apply Motion Module")["motion_lora"] == ["100", 0]
    assert prompt["100"]["inputs"] == {
        "motion_lora": "my/zoom.safetensors",
        "strength": 1.0,
        "previous": ["99", 0],
    }


def test_without_motions_the_graph_is_left_alone() -> None:
    assert filled(V2V).prompt.keys() == workflow_of(V2V).keys()


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_filling_leaves_the_workflow_as_it_was(endpoint: str) -> None:
    workflow = workflow_of(endpoint)
    before = copy.deepcopy(workflow)
    request = with_seed(validate(ENDPOINTS[endpoint], BASE | {"motions": ["zoom-in"]}))
    fill(ENDPOINTS[endpoint], workflow, request, Settings())
    assert workflow == before


def test_phases_and_the_exporting_node_are_told() -> None:
    result = filled(V2V)
    titles = {result.prompt[key]["_meta"]["title"]: phase for key, phase in result.phases.items()}
    assert titles == {
        "Load Video Frames": "decode",
        "AnimateDiff Sampler": "sampling",
        "Export Video": "encode",
    }
    assert result.prompt[result.export_node]["_meta"]["title"] == "Export Video"


# ---- sizes


@pytest.mark.parametrize(("name", "size"), PRESETS.items())
def test_presets_have_the_services_sizes(name: str, size: tuple[int, int]) -> None:
    assert frame_size(name, 1024 * 1024) == size
    assert filled(T2V, {"video_size": name}).notes == ()


@given(st.integers(1, 14142), st.integers(1, 14142), st.integers(64 * 64, 4096 * 4096))
def test_any_size_becomes_one_that_can_be_rendered(width: int, height: int, most: int) -> None:
    sides = frame_size(ImageSize(width=width, height=height), most)
    assert all(side % 8 == 0 and 64 <= side <= 4096 for side in sides)
    assert sides[0] * sides[1] <= most
    assert (sides[0] >= sides[1]) == (width >= height) or sides[0] == sides[1]
    if 64 <= min(width, height) and max(width, height) <= 4096 and (width + 8) * (height + 8) <= most:
        assert abs(sides[0] - width) <= 4 and abs(sides[1] - height) <= 4


@pytest.mark.parametrize(
    ("asked", "rendered"), [((1001, 333), (1000, 336)), ((5, 5), (64, 64)), ((4000, 4000), (1024, 1024))]
)
def test_the_log_says_which_size_it_became(asked: tuple[int, int], rendered: tuple[int, int]) -> None:
    result = filled(T2V, {"video_size": {"width": asked[0], "height": asked[1]}})
    latent = inputs(result.prompt, "Empty Video Latent")
    assert (latent["width"], latent["height"]) == rendered
    (note,) = result.notes
    assert f"{asked[0]}x{asked[1]} becomes {rendered[0]}x{rendered[1]}" in note


def test_the_owner_may_allow_less() -> None:
    latent = inputs(
        filled(T2V, {"video_size": "square_hd"}, max_pixels=512 * 512).prompt, "Empty Video Latent"
    )
    assert (latent["width"], latent["height"]) == (512, 512)


# ---- workflows of the owner's own


def retitled(title: str, new: str) -> Prompt:
    workflow = workflow_of(V2V)
    workflow[node_id(workflow, title)]["_meta"]["title"] = new
    return workflow


@pytest.mark.parametrize(
    "title",
    [
        "Prompt",
        "Negative Prompt",
        "Load Video Frames",
        "AnimateDiff Sampler",
        "Apply Motion Module",
        "Export Video",
    ],
)
def test_a_workflow_without_a_title_is_refused_with_that_title(title: str) -> None:
    with pytest.raises(ValueError, match=f"no node is titled '{title}'"):
        check(ENDPOINTS[V2V], retitled(title, "Mine"))


def test_a_title_that_two_nodes_have_is_refused() -> None:
    with pytest.raises(ValueError, match="2 nodes are titled 'Prompt'"):
        check(ENDPOINTS[V2V], retitled("Negative Prompt", "Prompt"))


def test_an_input_that_is_missing_or_linked_is_refused_with_its_name() -> None:
    workflow = workflow_of(V2V)
    inputs(workflow, "AnimateDiff Sampler")["steps"] = ["2", 0]
    with pytest.raises(ValueError, match="input steps of 'AnimateDiff Sampler' is linked"):
        check(ENDPOINTS[V2V], workflow)
    del inputs(workflow, "AnimateDiff Sampler")["steps"]
    with pytest.raises(ValueError, match="input steps of 'AnimateDiff Sampler' is missing"):
        check(ENDPOINTS[V2V], workflow)


@pytest.mark.parametrize("content", [[], {"1": 5}, {"1": {"class_type": "A"}}, "x", None])
def test_what_is_no_api_prompt_is_refused(content: Any) -> None:
    with pytest.raises(ValueError, match="not an API prompt"):
        check(ENDPOINTS[V2V], content)


def test_a_file_of_the_page_is_refused_with_the_menu_to_use() -> None:
    page_file = FOLDER.parent / "AnimateDiff SD1.5 Video to Video.json"
    with pytest.raises(ValueError, match=r"Export \(API\)"):
        check(ENDPOINTS[V2V], json.loads(page_file.read_text(encoding="utf-8")))


def test_an_endpoint_uses_the_workflow_that_the_owner_names(tmp_path: Path) -> None:
    workflow = workflow_of(V2V)
    inputs(workflow, "Load Checkpoint")["ckpt_name"] = "mine.safetensors"
    (tmp_path / "mine.json").write_text(json.dumps(workflow))
    found = load_workflows(Settings(workflows={V2V: tmp_path / "mine.json"}))
    assert inputs(found[V2V], "Load Checkpoint")["ckpt_name"] == "mine.safetensors"
    assert inputs(found[T2V], "Load Checkpoint")["ckpt_name"] != "mine.safetensors"


@pytest.mark.parametrize(
    ("content", "words"), [(None, "No such file"), ("{", "Expecting"), ("{}", "no node is titled")]
)
def test_an_unusable_workflow_file_is_named_without_its_folder(
    tmp_path: Path, content: str | None, words: str
) -> None:
    file = tmp_path / "mine.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=f"mine.json, the workflow of {V2V}: .*{words}") as caught:
        load_workflows(Settings(workflows={V2V: file}))
    assert str(tmp_path) not in str(caught.value)
