"""The parts of the family as networks that can be trained: the host's own layers, assembled for speed.

Measured on two cores: matrix attention under bf16 autocast trains the UNet at twice the rate of fp32 with the host's
attention; torch.compile was slower than both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import comfy.ops
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel

from ...motion_modules import families
from ...motion_modules.adapter import KEY, LAYER_PATCH, MotionState, motion_layer
from ...motion_modules.model import MotionModule, MotionModuleConfig
from ...motion_modules.temporal import TemporalTransformer
from ..extension.family import CONTEXT, HEADS, LATENT_CHANNELS, UNET, TinyTextEncoder
from ..shipped import Weights
from .weights import CHANNELS, random_weights, shapes_of

PATCH = 8  # pixels to a side of a latent
CALM = 4.0  # times the median of the frames' gradients
VOCABULARY = 49408
TEXT_PREFIX = "text_model."


def matrix_attention(
    _: Callable, q: Tensor, k: Tensor, v: Tensor, heads: int, *__: Any, **___: Any
) -> Tensor:
    """Attention as plain matrix products, for the host's `optimized_attention_override`. (n, tokens, c)."""
    n, tokens, c = q.shape
    q, k, v = (t.view(n, -1, heads, c // heads).transpose(1, 2) for t in (q, k, v))
    weights = torch.matmul(q * (c // heads) ** -0.5, k.transpose(-1, -2)).softmax(dim=-1)
    return torch.matmul(weights, v).transpose(1, 2).reshape(n, tokens, c)


def causal_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, _: Tensor | None) -> Tensor:
    n, tokens, c = q.shape
    q, k, v = (t.view(n, tokens, heads, c // heads).transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(n, tokens, c)


# ---- UNet


def make_unet(weights: Weights) -> UNetModel:
    """The tiny UNet, fp32. Errors: RuntimeError where weights are missing or unknown."""
    unet = UNetModel(**UNET, **HEADS, device="cpu", operations=comfy.ops.disable_weight_init)
    unet.load_state_dict(weights)
    return unet


def unet_options(device: torch.device, patches: dict[str, list[Any]] | None = None) -> dict[str, Any]:
    """Fresh transformer_options for one call of the UNet."""
    options: dict[str, Any] = {"patches": dict(patches or {})}
    if device.type == "cpu":
        options["optimized_attention_override"] = matrix_attention
    return options


def denoise_pictures(
    unet: UNetModel, x: Tensor, timesteps: Tensor, context: Tensor, **patches: Any
) -> Tensor:
    """The noise in x (n, 4, h, w) of unit variance, by context (n, 77, 128)."""
    return unet(x, timesteps, context, transformer_options=unet_options(x.device, patches))


def denoise_clips(
    unet: UNetModel,
    module: MotionModule,
    x: Tensor,
    timesteps: Tensor,
    context: Tensor,
) -> Tensor:
    """The noise in clips x (b, f, 4, h, w), by timesteps (b,) and context (b, 77, 128)."""
    b, f = x.shape[:2]
    patches = {LAYER_PATCH: [((ResBlock, SpatialTransformer), motion_layer)]}
    options = unet_options(x.device, patches) | {"cond_or_uncond": [0] * b}
    options[KEY] = MotionState(module, 1.0, 1.0, range(f))
    noise = unet(
        x.flatten(0, 1),
        timesteps.repeat_interleave(f),
        context.repeat_interleave(f, 0),
        transformer_options=options,
    )
    return noise.view_as(x)


# ---- text encoder


class CaptionEncoder(nn.Module):
    """The tiny CLIP over the tokens that captions use: (n, 77) tokens to (n, 77, 128).

    The host's encoder adds in place, which can't be trained, and its token table has 49408 rows, of which a hundred
    are used.

    used: those tokens, ascending.
    """

    def __init__(self, used: Sequence[int], weights: Weights) -> None:
        super().__init__()
        text_model = TinyTextEncoder().transformer.text_model.float().requires_grad_(True)
        text_model.load_state_dict(
            {key.removeprefix(TEXT_PREFIX): w for key, w in weights.items() if key.startswith(TEXT_PREFIX)}
        )
        table = text_model.embeddings.token_embedding.weight.detach()
        self.register_buffer("used", torch.tensor(used), persistent=False)
        self.rows = nn.Parameter(table[self.used].clone())
        self.positions = nn.Parameter(text_model.embeddings.position_embedding.weight.detach().clone())
        self.layers = text_model.encoder.layers
        self.final_layer_norm = text_model.final_layer_norm

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.rows[torch.searchsorted(self.used, tokens)] + self.positions
        for layer in self.layers:
            x = x + layer.self_attn(layer.layer_norm1(x), None, causal_attention)
            x = x + layer.mlp(layer.layer_norm2(x))
        return self.final_layer_norm(x)

    def checkpoint(self) -> Weights:
        """Under the names of SD1.5's checkpoints, with zeros for tokens never seen."""
        table = torch.zeros(VOCABULARY, CONTEXT)
        table[self.used.cpu()] = self.rows.detach().cpu()
        layers = {f"encoder.layers.{key}": value for key, value in self.layers.state_dict().items()}
        norm = {f"final_layer_norm.{key}": value for key, value in self.final_layer_norm.state_dict().items()}
        embeddings = {
            "embeddings.token_embedding.weight": table,
            "embeddings.position_embedding.weight": self.positions.detach(),
        }
        return {TEXT_PREFIX + key: value for key, value in (embeddings | layers | norm).items()} | {
            "text_projection.weight": torch.eye(CONTEXT)
        }


# ---- motion module


def make_motion_module(weights: Weights | None, positions: int = 32) -> MotionModule:
    """A v2 motion module, fp32, in its original layout; without weights, a new one that changes nothing yet."""
    family = families.V2 if positions == families.V2.frames else families.ANIMATE_LCM
    config = MotionModuleConfig("tiny", family, CHANNELS, positions, has_mid_block=True)
    cpu = torch.device("cpu")
    module = MotionModule(config, torch.float32, cpu, comfy.ops.disable_weight_init)
    module.load_state_dict(first_motion_weights(module) if weights is None else weights)
    return module


def first_motion_weights(module: MotionModule) -> Weights:
    """Weights of a module that changes nothing yet and whose first attention shows each frame itself.

    A frame's position thus reaches the feed-forward from the first step on. Random attention averages all positions
    away: a module that began with it had learnt after 2500 steps to keep frames alike, but not to move anything.
    """
    weights = random_weights("motion module", shapes_of(module))
    for key, weight in weights.items():
        if ".proj_out." in key:
            weight.zero_()
        elif ".attention_blocks.0.to_" in key and key.endswith("weight"):
            weight.copy_(torch.eye(len(weight)))
    return weights


def calm_gradients(module: MotionModule) -> None:
    """Limits what one frame adds to the gradient, wherever the module meets the UNet.

    The tiny UNet's norms over single channels are occasionally nearly constant: their gradients were a thousand times
    the others', which spoiled a tenth of the steps, so that little was learnt.
    """

    def calm(gradient: Tensor) -> Tensor:
        norms = gradient.flatten(1).norm(dim=1)
        factors = (CALM * norms.median() / norms.clamp(min=1e-12)).clamp(max=1.0)
        return gradient * factors.view(-1, *(1,) * (gradient.ndim - 1))

    def watch(_: nn.Module, __: tuple, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(calm)

    for part in temporal_transformers(module):
        part.register_forward_hook(watch)


def temporal_transformers(module: nn.Module) -> list[TemporalTransformer]:
    return [part for part in module.modules() if isinstance(part, TemporalTransformer)]


class FramePicker:
    """Lets a motion module see some frames of a clip as if all were there, by choosing rows of its position tables.

    Eight of sixteen frames cost half and teach the same: attention over frames is attention over a set of positions.
    """

    def __init__(self, module: MotionModule) -> None:
        self._tables = [(part, part.positions) for part in temporal_transformers(module)]

    def pick(self, frames: Tensor) -> None:
        """frames: (f,), ascending; the same for all clips of the next calls."""
        for part, table in self._tables:
            part.positions = table[:, frames.to(table.device)]

    def all(self) -> None:
        for part, table in self._tables:
            part.positions = table


# ---- a fast encoder


class PatchEncoder(nn.Module):
    """Pictures (n, 3, h, w) in 0..1 to latents (n, 4, h / 8, w / 8), in a tenth of the time of TAESD's encoder.

    Used while training. TAESD's encoder, which the checkpoint needs, learns to do the same.
    """

    WIDTH = 128

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, self.WIDTH, PATCH, stride=PATCH)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.SiLU(),
                nn.Conv2d(self.WIDTH, self.WIDTH, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(self.WIDTH, self.WIDTH, 1),
            )
            for _ in range(3)
        )
        self.out = nn.Conv2d(self.WIDTH, LATENT_CHANNELS, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        x = self.patches(pictures - 0.5)
        for block in self.blocks:
            x = x + block(x)
        return 2.8 * torch.tanh(self.out(F.silu(x)) / 2.8)  # TAESD's decoder bends what is near 3
