"""Compiling a model with a motion module: few graphs, and no setting frozen into them."""

from __future__ import annotations

import logging

import components
import pytest
import torch
from torch._dynamo.utils import counters

from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_torch_compile import skip_torch_compile_dict
from fast_animatediff.motion_modules import cpu, families
from fast_animatediff.motion_modules.adapter import (
    KEY,
    LAYER_PATCH,
    MotionState,
    apply_motion_module,
    motion_layer,
)
from fast_animatediff.motion_modules.fused_kernels import FusedKernels
from fast_animatediff.motion_modules.layer_windows import LayerWindow


class Graphs(list):
    """The graphs traced in a test, by their number of nodes; and the backend that leaves them as they are.

    One for all models of a test: the tracer uses no graph for another backend, whatever its guards say.
    """

    def __init__(self):
        def backend(graph, example_inputs, options=None):
            self.append(len(graph.graph.nodes))
            return graph.forward

        self.backend = backend


@pytest.fixture
def graphs(caplog):
    # pytest would format the tracer's hundred thousand debug lines
    caplog.set_level(logging.WARNING, "torch.__trace")
    torch._dynamo.reset()
    counters.clear()
    yield Graphs()
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def unet():
    return components.sd15_model().model.diffusion_model


def motion_layer_of(unet, kind):
    """A function of (x, state) that runs the first layer of a kind and what follows it; x is (4, 32, 8, 8)."""
    layer = next(part for part in unet.input_blocks[1] if isinstance(part, kind))
    emb = torch.randn(4, 128, generator=torch.Generator().manual_seed(1))
    context = torch.randn(4, 7, components.CONTEXT_CHANNELS, generator=torch.Generator().manual_seed(2))

    def run(x, state):
        patches = {LAYER_PATCH: [((ResBlock, SpatialTransformer), motion_layer)]}
        options = {"patches": patches, "block": ("input", 1), "block_index": 0, KEY: state}
        return motion_layer(layer, x, emb, context, options | {cpu.ATTENTION: cpu.pytorch_attention})

    return run


FEATURES = torch.randn(4, 32, 8, 8, generator=torch.Generator().manual_seed(3))


def assert_compiles(run, graphs, states, expected_graphs):
    compiled = torch.compile(run, backend=graphs.backend)
    with torch.inference_mode():
        for state in [*states, *states]:  # the second time nothing is traced
            expected = run(FEATURES, state)
            assert (compiled(FEATURES, state) - expected).norm() / expected.norm() < 1e-5, state
    assert len(graphs) == expected_graphs and not counters["graph_break"]


def test_another_strength_and_motion_scale_count_after_compiling(unet, graphs):
    module = components.motion_module().model
    states = [MotionState(module, 1.0, 1.0, range(4)), MotionState(module, 0.3, 1.4, range(4))]
    assert_compiles(motion_layer_of(unet, SpatialTransformer), graphs, states, 2)


@pytest.mark.parametrize("kind", [SpatialTransformer, ResBlock])
def test_numbers_for_each_frame_count_after_compiling_and_take_one_graph(unet, graphs, kind):
    module = components.motion_module(families.V1 if kind is ResBlock else families.V2).model
    ramps = (torch.linspace(0.0, high, 4).view(4, 1, 1, 1) for high in (0.5, 1.0))
    states = [MotionState(module, ramp, 1.0 + ramp, range(4)) for ramp in ramps]
    assert_compiles(motion_layer_of(unet, kind), graphs, states, 1)


def test_a_batch_of_the_same_size_is_not_taken_for_other_clips(unet, graphs):
    module = components.motion_module().model
    states = [MotionState(module, 1.0, 1.0, range(frames)) for frames in (2, 4)]
    assert_compiles(motion_layer_of(unet, SpatialTransformer), graphs, states, 2)


def test_windows_in_the_motion_layers_compile(unet, graphs):
    windows = tuple(LayerWindow((i, i + 1), torch.ones(2, 1, 1, 1), None) for i in (0, 2))
    states = [MotionState(components.motion_module().model, 1.0, 1.0, range(4), windows)]
    assert_compiles(motion_layer_of(unet, SpatialTransformer), graphs, states, 1)


def test_fused_kernels_leave_it_to_the_compiler(unet, graphs):
    layer, module, run = (
        motion_layer_of(unet, SpatialTransformer),
        components.motion_module().model,
        FusedKernels(),
    )
    with torch.inference_mode():
        expected = layer(FEATURES, MotionState(module, 1.0, 1.0, range(4)))
        compiled = torch.compile(layer, backend=graphs.backend)
        found = compiled(FEATURES, MotionState(module, 1.0, 1.0, range(4), run=run))
    assert (found - expected).norm() / expected.norm() < 1e-5
    assert len(graphs) == 1 and run.fastest == {}


def test_norms_across_the_frames_compile(unet, graphs):
    states = [MotionState(components.motion_module(families.V1).model, 1.0, 1.0, range(2))]
    assert_compiles(motion_layer_of(unet, ResBlock), graphs, states, 1)


@pytest.mark.slow
def test_torch_compile_model_makes_one_graph_of_unet_and_motion_module(graphs):
    """Of v1, whose norms across the frames are the harder ones to trace; the same motion, in one graph without breaks."""
    applied = apply_motion_module(components.sd15_model(), components.motion_module(families.V1))
    fast = applied.clone(disable_dynamic=True)
    set_torch_compile_wrapper(
        model=fast, backend=graphs.backend, options={"guard_filter_fn": skip_torch_compile_dict}
    )
    x = components.noise(3)
    with torch.inference_mode():
        expected = components.predict(applied, x)
        for _ in range(2):
            found = components.predict(fast, x)
            assert (found - expected).norm() / expected.norm() < 1e-5
    assert len(graphs) == 1 and not counters["graph_break"]
