"""What the numbers should be: the host's UNet in fp32 with the motion modules written out plainly, and Euler by hand."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from .host import MOTION_MODULE, load_model
from .jobs import Job, Size, conditions, noise, trailing_sigmas, trailing_timesteps
from .weights import positions, read

HEADS = 8
Weights = dict[str, Tensor]


def temporal_transformer(x: Tensor, w: Weights, frames: int) -> Tensor:
    """guoyww/AnimateDiff's module on x (b * f, c, h, w) in fp32; w: the weights of one place."""
    bf, c, height, width = x.shape
    normal = F.group_norm(x, 32, w["norm.weight"], w["norm.bias"], eps=1e-6)
    tokens = normal.reshape(bf // frames, frames, c, -1).permute(0, 3, 1, 2)  # (b, h * w, f, c)
    t = linear(tokens, w, "proj_in")
    block = "transformer_blocks.0."
    for a in range(2):
        h = layer_norm(t, w, f"{block}norms.{a}") + positions(c)[0, :frames].to(x.device)
        q, k, v = (
            linear(h, w, f"{block}attention_blocks.{a}.to_{p}").unflatten(-1, (HEADS, -1)) for p in "qkv"
        )
        scores = torch.einsum("bpihd,bpjhd->bphij", q, k) / (c // HEADS) ** 0.5
        mixed = torch.einsum("bphij,bpjhd->bpihd", scores.softmax(-1), v).flatten(-2)
        t = t + linear(mixed, w, f"{block}attention_blocks.{a}.to_out.0")
    value, gate = linear(layer_norm(t, w, f"{block}ff_norm"), w, f"{block}ff.net.0.proj").chunk(2, dim=-1)
    t = t + linear(value * F.gelu(gate), w, f"{block}ff.net.2")
    return x + linear(t, w, "proj_out").permute(0, 2, 3, 1).reshape(bf, c, height, width)


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def layer_norm(x: Tensor, w: Weights, name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])


def add_motion(unet: torch.nn.Module, weights: Weights, frames: int) -> None:
    """Behind the last attention of each UNet block, or behind the residual layer where a block has none."""
    places = [("mid_block.motion_modules.0", unet.middle_block)]
    down = [block for n, block in enumerate(unet.input_blocks) if n % 3]
    places += [(f"down_blocks.{n // 2}.motion_modules.{n % 2}", block) for n, block in enumerate(down)]
    places += [(f"up_blocks.{n // 3}.motion_modules.{n % 3}", b) for n, b in enumerate(unet.output_blocks)]
    for place, block in places:
        prefix = f"{place}.temporal_transformer."
        here = {key.removeprefix(prefix): v for key, v in weights.items() if key.startswith(prefix)}
        attention = [layer for layer in block if type(layer).__name__ == "SpatialTransformer"]
        layer = attention[-1] if attention else block[0]
        layer.register_forward_hook(lambda _, __, x, here=here: temporal_transformer(x, here, frames))


@torch.inference_mode()
def run_reference(folder: Path, size: Size, job: Job, device: str) -> dict[str, Tensor]:
    """The first UNet call for the positive and the negative prompt, and the latents after all steps."""
    unet = load_model(folder, size).model.diffusion_model.float().to(device)
    weights = {key: value.float().to(device) for key, value in read(folder / MOTION_MODULE).items()}
    add_motion(unet, weights, job.frames)
    sigmas = trailing_sigmas(job.steps)
    x = noise(job).to(device) * (1 + sigmas[0] ** 2) ** 0.5
    first = None
    for sigma, below, timestep in zip(sigmas[:-1], sigmas[1:], trailing_timesteps(job.steps), strict=True):
        scaled = x / (1 + sigma**2).to(device) ** 0.5
        t = torch.full((job.frames,), float(timestep), device=device)
        positive, negative = (
            unet(scaled, t, context=c.to(device).expand(job.frames, -1, -1), transformer_options={})
            for c in conditions()
        )
        first = first or {"positive": positive.cpu(), "negative": negative.cpu()}
        x = x + (negative + job.cfg * (positive - negative)) * (below - sigma).to(device)
    return first | {"latents": x.cpu()}
