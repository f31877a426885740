"""What the engine uses of the host beyond its public interface is there; a host that lacks some is named."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import components
import pytest

import comfy.conds
import comfy.context_windows
import comfy.controlnet
import comfy.ldm.modules.attention
import comfy.model_base
import comfy.model_patcher
import comfy.ops
import comfy.samplers
import comfy_extras.nodes_easycache
import comfy_extras.nodes_sag
from fast_animatediff import motion_modules

FILES = sorted(Path(motion_modules.__file__).parent.glob("*.py"))
INTERNALS = "host_internals.py"
# Attributes that are reached through an object, so that no import names them.
ATTRIBUTES: dict[Any, list[str]] = {
    comfy.context_windows.IndexListContextHandler: [
        "get_context_windows",
        "get_resized_cond",
        "prepare_control_objects",
        "should_use_context",
    ],
    comfy.context_windows.IndexListContextWindow([0], 0, 1): ["index_list", "total_frames"],
    comfy.conds.CONDRegular(None): ["_copy_with", "cond"],
    comfy.controlnet.ControlBase(): [
        "cond_hint",
        "cond_hint_original",
        "extra_concat",
        "extra_concat_orig",
        "previous_controlnet",
    ],
    comfy.controlnet.T2IAdapter(None, 3, 8, "nearest-exact"): ["control_input"],
    comfy.ldm.modules.attention: ["optimized_attention"],
    comfy.model_base.BaseModel: ["apply_model"],
    components.sd15_model().model: ["current_patcher", "model_config"],
    components.sd15_model().model.diffusion_model: ["out"],
    components.sd15_model().model.diffusion_model.input_blocks[1][0]: [
        "in_layers",
        "emb_layers",
        "out_layers",
        "skip_connection",
    ],
    components.sd15_model(): [
        "cached_patcher_init",
        "get_clone_model_override",
        "is_dynamic",
        "object_patches",
        "parent",
    ],
    comfy.model_patcher.ModelPatcherDynamic: ["get_non_dynamic_delegate"],
    comfy.samplers.KSampler: ["DISCARD_PENULTIMATE_SIGMA_SAMPLERS"],
    comfy_extras.nodes_sag: ["SelfAttentionGuidance"],
    comfy_extras.nodes_easycache.EasyCacheHolder(0.2, 0.15, 0.95, 8, False): ["name"],
}


def imported(path: Path) -> list[tuple[str, str]]:
    """(module, name) of everything that a file imports from the host by name."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return [
        (node.module, alias.name) for node in froms if not node.level and node.module for alias in node.names
    ]


def private_names() -> dict[str, str]:
    """Names that the engine imports from the host for its internals, and where they are."""
    names = [(module, name) for module, name in imported(Path(FILES[0].parent, INTERNALS))]
    return {name: module for module, name in names if module.startswith("comfy.") and name != "ModelPatcher"}


def lacking() -> list[str]:
    wanted: list[tuple[Any, str]] = [
        (importlib.import_module(module), name) for name, module in private_names().items()
    ]
    wanted += [(owner, name) for owner, names in ATTRIBUTES.items() for name in names]
    return [f"{owner}: {name}" for owner, name in wanted if not hasattr(owner, name)]


@pytest.mark.parametrize("path", [path for path in FILES if path.name != INTERNALS], ids=lambda p: p.stem)
def test_other_files_take_the_hosts_internals_from_one_place(path):
    private = private_names()
    attributes = {
        node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)
    }
    direct = {name for module, name in imported(path) if module.startswith("comfy") and name in private}
    strangers = {
        "_copy_with",
        "_step",
        "current_patcher",
        "cached_patcher_init",
        "non_dynamic_delegate_model",
    }
    by_attribute = set(re.findall(r"comfy\.[\w.]+\.(\w+)", path.read_text())) & private.keys()
    assert not direct | by_attribute | (attributes & strangers)


def test_the_host_has_what_the_engine_uses_of_its_internals():
    assert not lacking(), lacking()


def test_what_a_host_lacks_is_named(monkeypatch):
    monkeypatch.delattr(comfy.ops, "cast_bias_weight")
    (missing,) = lacking()
    assert missing.endswith("cast_bias_weight")


def test_the_wrapper_that_makes_room_for_one_window_has_the_name_that_is_removed():
    from fast_animatediff.motion_modules.host_internals import PREPARE_WINDOWS

    class Model:
        def add_wrapper_with_key(self, kind, key, wrapper):
            self.key = key

    model = Model()
    comfy.context_windows.create_prepare_sampling_wrapper(model)
    assert model.key == PREPARE_WINDOWS
