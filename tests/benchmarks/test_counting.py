"""Counts of kernels, bytes, operations and live memory."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fast_animatediff.benchmarks.compare.counting import OperationCounter
from fast_animatediff.benchmarks.compare.recording import Clock, UNetInput, record


def count(action):
    counter = OperationCounter()
    with torch.no_grad(), counter:
        action()
    return counter


def test_views_are_no_kernels_and_copies_are():
    x = torch.zeros(4, 6)
    assert count(lambda: x.view(6, 4)[2:].t()).total.kernels == 0
    assert count(lambda: x.t().reshape(4, 6)[2:]).total.kernels == 1


def test_bytes_are_what_is_read_and_written():
    a, b = torch.zeros(10, 10), torch.zeros(10, 10)
    assert count(lambda: a + b).total.bytes == 3 * 400
    assert count(lambda: a.add_(b)).total.bytes == 3 * 400
    row = torch.zeros(1, 10).expand(10, 10)
    assert count(lambda: row.clone()).total.bytes == 40 + 400  # what is expanded is read once


def test_operations_are_counted_by_the_type_they_compute_in():
    x, w = torch.zeros(2, 3, 8), torch.zeros(16, 8)
    assert count(lambda: F.linear(x, w)).total.flops == {"float32": 2 * 6 * 8 * 16}
    half = count(lambda: F.linear(x.bfloat16(), w.bfloat16())).total
    assert half.flops == {"bfloat16": 2 * 6 * 8 * 16} and half.kernels == 3


def test_attention_counts_whichever_kernel_the_processor_has():
    q = torch.zeros(1, 2, 8, 16)
    two_products = 2 * (2 * 2 * 8 * 8 * 16)
    assert count(lambda: F.scaled_dot_product_attention(q, q, q)).total.flops == {"float32": two_products}


def test_the_peak_is_of_tensors_alive_at_once():
    def chain():
        x = torch.ones(1000)
        for _ in range(5):
            x = x + 1

    def hoard():
        x = torch.ones(1000)
        return [x + 1 for _ in range(5)]

    assert count(chain).peak == 2 * 4000
    assert count(hoard).peak == 6 * 4000


class Unet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.motion = torch.nn.Linear(4, 4, bias=False)

    def forward(self, x, timesteps, context=None):
        return self.motion(x) + 1


@pytest.fixture
def unet():
    return Unet()


def test_calls_batches_and_steps_are_recorded(unet):
    clock = Clock("cpu")
    with record(unet, [], lambda a, k: UNetInput(a[0], a[1], k["context"]), clock) as done:
        for timestep in (999, 999, 500, 500, 1):  # two windows, two windows, one call
            unet(torch.zeros(8, 4), torch.full((8,), float(timestep)), context=torch.zeros(8, 7, 3))
        unet(torch.zeros(4, 4), torch.full((4,), 1.0), context=torch.zeros(4, 7, 3))
    assert done.calls() == "5 of 8 frames + 1 of 4 frames"
    assert done.timesteps == [999, 999, 500, 500, 1, 1]
    assert len(done.step_seconds(clock)) == 2


def test_a_motion_layer_is_counted_by_itself(unet):
    counter = OperationCounter()
    read = lambda a, k: UNetInput(a[0], a[1], k["context"])  # noqa: E731
    with torch.no_grad(), record(unet, [(0, unet.motion)], read, Clock("cpu"), counter) as done, counter:
        unet(torch.zeros(8, 4), torch.ones(8), context=torch.zeros(8, 7, 3))
    level, size, counts = done.layer_counts[0]
    assert (level, size, counts.kernels) == (0, 8 * 4 * 4, 1)
    assert done.unet_counts[0].kernels == 2
    assert not unet._forward_hooks and not unet.motion._forward_pre_hooks


def test_what_an_operation_changes_in_place_is_read_and_written():
    x, y, weight = torch.zeros(4, 8), torch.zeros(4, 2), torch.zeros(2, 8)
    with OperationCounter() as added:
        x.add_(x)
    with OperationCounter() as multiplied:
        x.addmm_(y, weight)
    assert added.total.bytes == 3 * 4 * 32
    assert multiplied.total.bytes == 4 * (32 + 8 + 16 + 32)
    assert sum(multiplied.total.flops.values()) == 2 * 4 * 2 * 8


def test_so_is_what_an_operator_of_a_packs_own_changes():
    @torch.library.custom_op("fast_animatediff_tests::bump", mutates_args=("x",))
    def bump(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x.add_(y)
        return y.clone()

    x, y = torch.zeros(8), torch.ones(8)
    with OperationCounter() as counter:
        bump(x, y)
    # One operation to the counter, whatever is inside: x and y read, x and the result written.
    assert counter.total.kernels == 1 and counter.total.bytes == 4 * 4 * 8
