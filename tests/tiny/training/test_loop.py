"""The training loop: stopped and taken up again, rates of their own, plans that differ."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fast_animatediff.tiny.training.loop import Plan, Training
from fast_animatediff.tiny.training.vae import VaeStage

CPU = torch.device("cpu")


def small_vae_stage(steps: int = 4) -> VaeStage:
    return VaeStage(Plan(steps=steps, batch=2, learning_rate=1e-3, warm_up=2), 0, 64, CPU)


def test_training_stopped_and_taken_up_again_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = Training(small_vae_stage(), tmp_path / "whole")
    for _ in range(4):
        whole.advance()
    first = Training(small_vae_stage(), tmp_path / "parts")
    for _ in range(2):
        first.advance()
    first.save()
    second = Training(small_vae_stage(), tmp_path / "parts")
    assert second.resume() and second.step == 2
    for _ in range(2):
        second.advance()
    for name, weight in whole.parameters.items():
        assert torch.equal(weight, second.parameters[name]), name
        assert torch.equal(whole.average[name], second.average[name]), name


def test_parameters_with_a_rate_of_their_own_are_clipped_by_themselves_and_do_not_decay(
    tmp_path: Path,
) -> None:
    training = Training(StageOfTwoRates({"other.": 0.1}), tmp_path)
    training.advance()
    other = {id(p): group for group in training.optimizer.param_groups for p in group["params"]}[
        id(training.parameters["other.x"])
    ]
    assert other["lr"] == 0.1 and other["weight_decay"] == 0
    # Its gradient is a thousand times the other's, which clipped together with it would all but vanish.
    assert training.parameters["main.x"].grad.norm().item() == pytest.approx(0.5)
    with pytest.raises(ValueError, match="begin with 'none.'"):
        Training(StageOfTwoRates({"none.": 0.1}), tmp_path)


class StageOfTwoRates:
    name = "two rates"

    def __init__(self, other_rates: dict[str, float]) -> None:
        self.plan = Plan(steps=9, batch=1, learning_rate=0.01, warm_up=1, clip=0.5, other_rates=other_rates)
        self.weights = {name: torch.ones(1, requires_grad=True) for name in ("main.x", "other.x")}

    def parameters(self) -> dict[str, torch.Tensor]:
        return self.weights

    def loss(self, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        return (self.weights["main.x"] + 1000 * self.weights["other.x"]).sum(), {}


def test_a_checkpoint_of_another_plan_is_refused(tmp_path: Path) -> None:
    Training(small_vae_stage(), tmp_path).save()
    with pytest.raises(ValueError, match="another plan"):
        Training(small_vae_stage(steps=5), tmp_path).resume()
