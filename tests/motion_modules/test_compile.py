"""Compiling a model with a motion module, as a whole or its motion layers: few graphs, and no setting frozen into them."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys

import components
import pytest
import torch
from torch._dynamo.utils import counters

from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_torch_compile import skip_torch_compile_dict
from fast_animatediff.motion_modules import adapter, families
from fast_animatediff.motion_modules.adapter import KEY, apply_motion_module
from fast_animatediff.motion_modules.compiled import compiled_transformer
from fast_animatediff.motion_modules.lora import load_motion_lora
from fast_animatediff.motion_modules.sampler_settings import SamplerSettings
from fast_animatediff.motion_modules.sampling import sample
from fast_animatediff.motion_modules.windows import make_windows, set_windows
from fast_animatediff.tests.conftest import COMFYUI, ROOT

pytestmark = pytest.mark.slow


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
    # Values become constants that guards watch: a second graph, with symbols for them, takes a minute to trace.
    with torch._dynamo.config.patch(automatic_dynamic_shapes=False):
        yield Graphs()
    torch._dynamo.reset()


def compiled(model, graphs):
    """As TorchCompileModel does it, with the test's own backend."""
    model = model.clone(disable_dynamic=True)
    options = {"guard_filter_fn": skip_torch_compile_dict}
    set_torch_compile_wrapper(model=model, backend=graphs.backend, options=options)
    return model


def render(model, frames=3, **settings):
    latent = {"samples": torch.zeros(frames, 4, 8, 8)}
    settings = SamplerSettings(**({"seed": 1, "steps": 1, "cfg": 3.0} | settings))
    conditions = components.conditioning(3), components.conditioning(5)
    with torch.inference_mode():
        return sample(model, *conditions, latent, settings)["samples"]


def assert_same(model, other, **settings):
    expected = render(other, **settings)
    assert (render(model, **settings) - expected).norm() / expected.norm() < 1e-5, settings


def test_the_unet_with_its_motion_module_is_one_graph_without_breaks(graphs):
    """Of v1, whose norms across the frames are the harder ones to trace; compile_motion has no say then."""
    applied = apply_motion_module(components.sd15_model(), components.motion_module(families.V1))
    also_by_itself = apply_motion_module(
        components.sd15_model(), components.motion_module(families.V1), compile_motion=True
    )
    fast = compiled(also_by_itself, graphs)
    for _ in range(2):
        assert_same(fast, applied)
    assert len(graphs) == 1 and not counters["graph_break"]


def test_another_strength_and_motion_scale_count_after_compiling(graphs):
    base, module = components.sd15_model(), components.motion_module()
    for settings in ({"strength": 1.0}, {"strength": 0.3, "motion_scale": 1.4}):
        applied = apply_motion_module(base, module, **settings)
        assert_same(compiled(applied, graphs), applied)
    assert len(graphs) == 2 and not counters["graph_break"]


def test_a_batch_of_the_same_size_is_not_taken_for_other_clips(graphs):
    applied = apply_motion_module(components.sd15_model(), components.motion_module())
    fast = compiled(applied, graphs)
    for frames, cfg in [(2, 2.0), (4, 1.0)]:  # four latents each: two clips of two, one of four
        assert_same(fast, applied, frames=frames, cfg=cfg)
    assert len(graphs) == 2 and not counters["graph_break"]


@pytest.fixture
def apply_both(graphs, monkeypatch):
    """Applies a module as it is and with `compile_motion`, by the test's backend."""
    monkeypatch.setattr(adapter, "compiled_transformer", lambda: compiled_transformer(graphs.backend))
    return lambda *arguments, **settings: [
        apply_motion_module(*arguments, **settings, compile_motion=switch) for switch in (False, True)
    ]


def test_motion_layers_need_one_graph_a_level_for_all_values_models_and_windows(apply_both, graphs, tmp_path):
    module = components.motion_module()
    lora = load_motion_lora(components.save(components.motion_lora(), tmp_path / "lora.safetensors"), 0.7)
    for seed, settings in ((0, {}), (3, {"strength": 0.3, "motion_scale": 1.4})):
        expected, fast = apply_both(components.sd15_model(seed), module, loras=(lora,), **settings)
        assert_same(fast.clone(), expected)
    windows = make_windows(3, 0, "batched", motion_layers_only=True)
    assert_same(set_windows(fast, windows), set_windows(expected, windows), frames=6)
    assert len(graphs) == 4 and not counters["graph_break"]


def test_motion_layers_whose_weights_the_host_patches_at_each_use_stay_uncompiled(apply_both, graphs):
    expected, fast = apply_both(components.sd15_model(), components.motion_module())
    for model in (expected, fast):
        (module,) = model.get_additional_models_with_key(KEY)
        for name in module.model.state_dict():
            if name.endswith("proj_in.weight"):
                module.add_weight_wrapper(name, lambda weight: weight * 2)
    assert_same(fast, expected)
    assert not graphs


WITHOUT_COMPILER = """
import sys, types
sys.path.insert(0, sys.argv[1])
from comfy.cli_args import args
args.cpu = True
import comfy.ops, torch
pack = sys.modules["pack"] = types.ModuleType("pack")
pack.__path__ = [sys.argv[2]]
from pack.motion_modules.compiled import compiled_transformer
from pack.motion_modules.temporal import TemporalTransformer
transformer = TemporalTransformer(32, 8, torch.float32, torch.device("cpu"), comfy.ops.disable_weight_init)
with torch.inference_mode():
    compiled_transformer()(transformer, torch.zeros(4, 32, 2, 2), 2, 1.0, 1.0)
"""


def test_a_missing_compiler_is_named_with_the_switch(tmp_path):
    """In a process of its own: after a compilation that failed PyTorch keeps arguments of functions in memory for longer."""
    environment = os.environ | {"CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-I", "-c", WITHOUT_COMPILER, str(COMFYUI), str(ROOT)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert re.search(
        r"RuntimeError: compile_motion: .*C\+\+ compiler.*switch compile_motion", ended.stderr
    ), ended.stderr
