"""What `bench directed` asks of both packs: clips that are directed along their frames, and how each pack is told."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import host, jobs, weights
from .ade import Evolved
from .ours import Ours

PROMPTS = ("a forest in spring", "a forest in autumn")
SOONER = (
    "theirs blends each frame with the one before instead of with the key: the second prompt comes sooner"
)
KEYS = "here a frame's number scales how it looks at the others, theirs how the others look at it"
CENTRES = "a feature gets the mask's mean over its area here, the mask at its centre there"
TWO_WINDOWS = "one window here, which begins with another frame at each step; two there"
FUSED = "windows are fused behind the layer's feed-forward here, before it there"


@dataclass(frozen=True)
class Case:
    """One row. Lengths are in frames; length 0: no windows.

    prompts: "rows" for both, or "linear" and "hold" as text in each pack's schedule node; "compounded" as theirs blends.
    motion_scale: "queries" as ours, "keys" as theirs. mask: "quarters" or "pixels". control: one hint a frame.
    control_strength: another strength for each frame, there by Advanced-ControlNet's latent keyframes.
    there: options of their context that differ from ours.
    why: the cause, where the two are expected to differ; the row below is without it, and so the same.
    """

    name: str
    frames: int
    length: int = 0
    overlap: int = 0
    schedule: str = "standard_static"
    fuse: str = "pyramid"
    stride: int = 1
    closed_loop: bool = False
    layers_only: bool = False
    freenoise: bool = False
    prompts: str = ""
    strength: bool = False
    motion_scale: str = ""
    mask: str = ""
    control: bool = False
    control_strength: bool = False
    there: tuple[tuple[str, Any], ...] = ()
    why: str = ""


def make_cases(length: int = 16) -> list[Case]:
    """All rows, for windows of this length: clips of one window, then longer ones."""
    overlap, cases = length // 4, []
    one, long = Case("", length), Case("", 2 * length + overlap, length, overlap)
    for clip in (one, long):
        cases += [
            replace(clip, name="nothing changes"),
            replace(clip, name="a prompt for each frame, the same rows", prompts="rows"),
            replace(clip, name="strength per frame", strength=True),
            replace(clip, name="strength per frame, by a mask of quarters", strength=True, mask="quarters"),
            replace(clip, name="motion scale per frame, as keys here too", motion_scale="keys"),
            replace(clip, name="ControlNet, a hint for each frame", control=True),
            replace(clip, name="ControlNet, a strength for each frame", control=True, control_strength=True),
        ]
    loop = replace(long, schedule="looped_uniform", closed_loop=True)
    rolled = replace(loop, frames=length, there=(("use_on_equal_length", True),))
    layers = replace(long, layers_only=True)
    return cases + [
        replace(long, name="FreeNoise", freenoise=True),
        replace(long, name="fused: relative", fuse="relative"),
        replace(long, name="fused: overlap-linear", fuse="overlap-linear"),
        replace(long, name="standard_uniform, stride 2", schedule="standard_uniform", stride=2),
        replace(loop, name="looped_uniform", closed_loop=False),
        replace(loop, name="closed loop"),
        replace(loop, name="closed loop, stride 2, flat", stride=2, fuse="flat"),
        replace(loop, name="closed loop, prompts, strength, ControlNet", prompts="rows", strength=True, control=True),
        replace(one, name="prompts as text, held", prompts="hold"),
        replace(one, name="prompts as text, blended", prompts="linear", why=SOONER),
        replace(one, name="the same, blended here as there", prompts="compounded"),
        replace(one, name="motion scale per frame", motion_scale="queries", why=KEYS),
        replace(one, name="the same, as keys here too", motion_scale="keys"),
        replace(one, name="a mask of single pixels", mask="pixels", why=CENTRES),
        replace(one, name="a mask of quarters", mask="quarters"),
        replace(rolled, name="closed loop of one window", why=TWO_WINDOWS),
        replace(rolled, name="the same, overlap 0 there", there=(*rolled.there, ("context_overlap", 0))),
        replace(layers, name="windows in the motion layers", why=FUSED),
        replace(layers, name="the same, overlap 0", overlap=0, frames=2 * length),
    ]  # fmt: skip


# ---- what both are given


def ramp(case: Case, first: float, last: float) -> list[float]:
    return torch.linspace(first, last, case.frames).tolist()


def mask_of(case: Case, pixels: int) -> Tensor | None:
    """(1, pixels, pixels) in 0..1."""
    if not case.mask:
        return None
    side = 2 if case.mask == "quarters" else pixels
    values = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(4))
    return torch.nn.functional.interpolate(values, (pixels, pixels))[0]


class Encoder:
    """Stands in for CLIP in both: two prompts have the encodings of `jobs.conditions`."""

    use_clip_schedule = False

    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens(self, tokens: str, return_pooled: bool = False) -> Any:
        encoded, pooled = jobs.conditions()[PROMPTS.index(tokens)], torch.zeros(1, jobs.TOKEN_CHANNELS)
        return (encoded, pooled) if return_pooled else encoded

    def encode_from_tokens_scheduled(self, tokens: str, show_pbar: bool = True) -> list:
        return [[self.encode_from_tokens(tokens), {}]]

    def add_hooks_to_dict(self, options: dict) -> None:
        pass


def text_of(case: Case, held: str = "") -> str:
    """A schedule that both nodes understand. held: what theirs writes behind a frame that is held."""
    last = case.frames // 2 if case.prompts == "hold" else case.frames - 1
    return f'"0{held}": "{PROMPTS[0]}", "{last}": "{PROMPTS[1]}"'


def our_prompts(case: Case) -> list:
    from fast_animatediff.motion_modules.keyframes import Blend, parse_keys
    from fast_animatediff.motion_modules.prompt_schedule import encode_schedule, mix

    if not case.prompts:
        return host.host_conditions()[0]
    if case.prompts == "compounded":
        kept = torch.cumprod(1 - torch.linspace(0, 1, case.frames, dtype=torch.float64), 0)
        return [[mix(jobs.conditions(), [Blend(0, 1, float(1 - part)) for part in kept]), {}]]
    interpolation = "hold" if case.prompts == "hold" else "linear"
    return encode_schedule(Encoder(), parse_keys(text_of(case)), case.frames, interpolation=interpolation)


def their_prompts(case: Case) -> list:
    from animatediff_evolved.animatediff.nodes_scheduling import PromptSchedulingNode

    if case.prompts in ("", "rows"):
        return our_prompts(case)
    text = text_of(case, ":" if case.prompts == "hold" else "")
    return PromptSchedulingNode().create_schedule(text, Encoder(), max_length=case.frames)[0]


def make_control(size: jobs.Size) -> Any:
    """The host's ControlNet for a UNet of this size, with random weights."""
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.ops

    config = {key: value for key, value in host.unet_config(size).items() if key != "out_channels"}
    operations = comfy.ops.disable_weight_init
    network = comfy.cldm.cldm.ControlNet(**config, hint_channels=3, operations=operations, device="cpu")
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    network.load_state_dict({key: value.float() for key, value in weights.random_weights(shapes).items()})
    network.eval().requires_grad_(False)
    return comfy.controlnet.ControlNet(network, load_device=torch.device("cpu"))


# ---- the two packs


def our_model(contender: Ours, case: Case, pixels: int) -> Any:
    from fast_animatediff.motion_modules.adapter import apply_motion_module
    from fast_animatediff.motion_modules.layer_windows import make_windows
    from fast_animatediff.motion_modules.motion_settings import MotionSettings
    from fast_animatediff.motion_modules.windows import WindowSettings, set_windows

    settings = MotionSettings(
        strength=ramp(case, 0.2, 1.0) if case.strength else 1.0,
        motion_scale=ramp(case, 0.8, 1.4) if case.motion_scale else 1.0,
        mask=mask_of(case, pixels),
    )
    model = apply_motion_module(contender.base, contender.motion_module, settings)
    windows = WindowSettings(
        case.length, case.overlap, case.schedule, case.fuse, case.stride, case.closed_loop, case.freenoise,
        case.layers_only,
    )  # fmt: skip
    return set_windows(model, make_windows(windows)) if case.length else model


def their_model(contender: Evolved, case: Case, pixels: int) -> Any:
    from animatediff_evolved.animatediff import nodes_gen2, nodes_multival, nodes_sample

    multival = nodes_multival.MultivalDynamicFloatsNode().create_multival
    mask = mask_of(case, pixels)
    effect, scale, settings = None, None, {}
    if case.strength or mask is not None:
        effect = multival(ramp(case, 0.2, 1.0) if case.strength else 1.0, mask)[0]
    if case.motion_scale:
        scale = multival(ramp(case, 0.8, 1.4))[0]
    if case.freenoise:
        node = nodes_sample.SampleSettingsNode()
        settings["sample_settings"] = node.create_settings(0, "FreeNoise", "comfy", 0)[0]
    if case.length:
        settings["context_options"] = their_windows(case)
    apply = nodes_gen2.ApplyAnimateDiffModelBasicNode().apply_motion_model
    applied = apply(contender.motion_model, effect_multival=effect, scale_multival=scale)[0]
    evolve = nodes_gen2.UseEvolvedSamplingNode().use_evolved_sampling
    return evolve(contender.base, "autoselect", applied, **settings)[0]


def their_windows(case: Case) -> Any:
    """What their context nodes make; windows in the motion layers are their views."""
    from animatediff_evolved.animatediff.context import ContextOptions, ContextOptionsGroup

    options = {
        "context_length": case.length, "context_overlap": case.overlap, "context_stride": case.stride,
        "context_schedule": case.schedule, "closed_loop": case.closed_loop, "fuse_method": case.fuse,
    } | dict(case.there)  # fmt: skip
    windows, group = ContextOptions(**options), ContextOptionsGroup()
    if case.layers_only:
        whole = {"context_schedule": "view_as_context", "use_on_equal_length": True}
        windows = ContextOptions(**whole, view_options=windows)
    group.add(windows)
    return group


def import_advanced_controlnet(folder: Path) -> None:
    """As the host does; AnimateDiff-Evolved finds it by itself, and it then takes the place of core's controls."""
    name, entry = "advanced_controlnet", folder / "__init__.py"
    spec = importlib.util.spec_from_file_location(name, entry, submodule_search_locations=[str(folder)])
    sys.modules[name] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)


def our_control_strength(conditions: list, numbers: list[float]) -> list:
    from fast_animatediff.motion_modules.control_strengths import with_control_strength

    return with_control_strength(conditions, numbers)


def their_control_strength(conditions: list, numbers: list[float]) -> list:
    """By latent keyframes, which their loader and Apply put on the control."""
    from advanced_controlnet.adv_control.control import convert_to_advanced
    from advanced_controlnet.adv_control.utils import (
        LatentKeyframe,
        LatentKeyframeGroup,
        TimestepKeyframe,
        TimestepKeyframeGroup,
    )

    group, keyframes = LatentKeyframeGroup(), TimestepKeyframeGroup()
    for frame, strength in enumerate(numbers):
        group.add(LatentKeyframe(frame, strength))
    keyframes.add(TimestepKeyframe(latent_keyframes=group))
    control = conditions[0][0][1]["control"]
    theirs = convert_to_advanced(control, keyframes)
    theirs.set_cond_hint(control.cond_hint_original)
    return [[[rows, options | {"control": theirs}] for rows, options in c] for c in conditions]
