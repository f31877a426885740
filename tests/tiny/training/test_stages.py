"""Every stage takes steps of its own and goes on with what the ones before it wrote."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from fast_animatediff.tests.tiny.training.first_steps import Trained
from fast_animatediff.tiny.domain.motions import CAMERA_RATES
from fast_animatediff.tiny.training import train
from fast_animatediff.tiny.training.cameras import (
    CameraStep,
    kind_of_step,
)
from fast_animatediff.tiny.training.data import captioned_clips
from fast_animatediff.tiny.training.diffusion import draw_noise, expand
from fast_animatediff.tiny.training.edits import EditStep
from fast_animatediff.tiny.training.edits import kind_of_step as kind_of_edit_step
from fast_animatediff.tiny.training.motion import FRAMES

CPU = torch.device("cpu")
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", train.PLANS)
def test_a_stage_takes_steps_that_change_its_weights_and_writes_its_file(name: str, trained: Trained) -> None:
    assert trained.changed[name] > 1 / 4
    assert list(trained.folder.glob(f"{name}*.safetensors"))


@pytest.mark.parametrize(
    "stage_name, without_a_camera", [("cameras", {"rest"}), ("edits", {"rest", "edits"})]
)
def test_a_camera_step_trains_the_lora_of_its_axis_alone_and_no_other_step_one(
    trained: Trained, stage_name: str, without_a_camera: set[str]
) -> None:
    plan = replace(train.PLANS[stage_name], steps=100, batch=2, warm_up=1)
    stage = train.make_stage(stage_name, plan, 0, 64, CPU, trained.folder)
    with_gradient = {}
    for step in range(48):
        kind = (kind_of_edit_step if stage_name == "edits" else kind_of_step)(step)
        name = (
            kind.axis if isinstance(kind, CameraStep) else "edits" if isinstance(kind, EditStep) else "rest"
        )
        if name not in with_gradient:
            for parameter in stage.parameters().values():
                parameter.grad = None
            stage.loss(step)[0].backward()
            with_gradient[name] = {key for key, p in stage.parameters().items() if p.grad is not None}
    assert set(with_gradient) == without_a_camera | set(CAMERA_RATES)
    for name, keys in with_gradient.items():
        axes = {key.split(".")[1] for key in keys if key.startswith("lora.")}
        assert axes == ({name} - without_a_camera)
        parts = {key.split(".")[2] for key in keys if key.startswith("lora.")}
        assert parts == ({"common", "direction"} if axes else set())
        assert any(not key.startswith(("lora.", "readouts.")) for key in keys)


def test_edits_goes_on_with_the_module_and_the_loras_of_cameras_and_turbo_distils_from_edits(
    trained: Trained,
) -> None:
    edits = train.make_stage("edits", replace(train.PLANS["edits"], batch=2), 0, 64, CPU, trained.folder)
    for key, value in load_file(trained.folder / "cameras.safetensors").items():
        assert torch.equal(edits.weights[key], value), key
    for axis, lora in edits.loras.items():
        expected = load_file(trained.folder / f"cameras-{axis}.safetensors")
        assert lora.file().keys() == expected.keys()
        assert all(torch.allclose(value, expected[key]) for key, value in lora.file().items())
    turbo = train.make_stage("turbo", replace(train.PLANS["turbo"], batch=2), 0, 64, CPU, trained.folder)
    expected = load_file(trained.folder / "edits.safetensors")
    assert all(torch.equal(turbo.teacher.state_dict()[key], value) for key, value in expected.items())


def test_rolls_goes_on_with_the_lora_of_edits_and_trains_it_alone_both_ways(trained: Trained) -> None:
    stage = train.make_stage("rolls", replace(train.PLANS["rolls"], batch=2), 0, 64, CPU, trained.folder)
    for key, value in load_file(trained.folder / "edits.safetensors").items():
        assert torch.equal(stage.weights[key], value), key
    lora = stage.loras["roll"]
    for key, value in load_file(trained.folder / "edits-roll.safetensors").items():
        assert torch.allclose(lora.file()[key], value), key
    for step, sign in enumerate((1.0, -1.0)):
        loss, numbers = stage.loss(step)
        loss.backward()
        assert set(numbers) == {"roll", "flow of roll"} and lora.direction.parts[0].strength == sign
    rolling = {id(p) for p in lora.parameters()}
    assert {id(p) for p in stage.module.parameters() if p.grad is not None} == rolling
    readouts = {id(p) for p in stage.readouts.parameters()}
    assert {id(p) for p in stage.parameters().values()} == rolling | readouts


@torch.no_grad()
def test_the_teacher_of_turbo_goes_down_by_eulers_method_and_leaves_finished_clips_alone(
    trained: Trained,
) -> None:
    stage = train.make_stage("turbo", replace(train.PLANS["turbo"], batch=2), 0, 64, CPU, trained.folder)
    batch = captioned_clips(0, "go down", 0, 3, FRAMES, 64, CPU)
    latents, context = stage.networks.prepare(batch)
    sigmas = torch.cat([torch.zeros(1), stage.sampling.sigmas])
    entry = torch.tensor([100, 9, 3])
    x = latents + expand(sigmas[entry], latents) * draw_noise(batch.rng, latents)
    once = stage.teach(x, sigmas[entry], context)
    once += (x - once) * expand(sigmas[[94, 3, 0]] / sigmas[entry], x)
    twice = stage.teach(once, sigmas[[94, 3, 1]], context)
    twice += (once - twice) * expand(sigmas[[88, 0, 0]] / sigmas[[94, 3, 1]], x)
    nearer, lower = stage.go_down(x, entry, context)
    assert torch.equal(lower, sigmas[[88, 0, 0]])
    assert torch.allclose(nearer[:2], twice[:2], atol=1e-3) and torch.allclose(nearer[2], once[2], atol=1e-3)
    assert not torch.allclose(once[2], twice[2], atol=1e-3)
