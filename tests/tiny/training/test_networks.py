"""What is trained is what is run: the training's own networks against the host's."""

from __future__ import annotations

from pathlib import Path

import components
import torch
from safetensors.torch import load_file

import comfy.sd
import comfy.utils
from fast_animatediff.motion_modules.adapter import apply_motion_module
from fast_animatediff.motion_modules.checkpoint import load_motion_module
from fast_animatediff.tiny.domain.captions import host_tokens
from fast_animatediff.tiny.domain.scenes import seeded
from fast_animatediff.tiny.shipped import (
    CHECKPOINT,
    FOLDER,
    MOTION_MODULE,
    SHIPPED,
    unpack,
)
from fast_animatediff.tiny.training.diffusion import make_tables
from fast_animatediff.tiny.training.networks import TEXT_PREFIX as HOST_TEXT_PREFIX
from fast_animatediff.tiny.training.networks import (
    CaptionEncoder,
    FramePicker,
    causal_attention,
    denoise_clips,
    make_motion_module,
    make_unet,
    matrix_attention,
)

UNET_PREFIX, CLIP_PREFIX = "model.diffusion_model.", "cond_stage_model.transformer."


def test_matrix_attention_is_attention() -> None:
    q, k, v = torch.randn(3, 2, 10, 64, generator=seeded("attention"))
    heads = [t.view(2, 10, 2, 32).transpose(1, 2) for t in (q, k, v)]
    for ours, causal in (
        (matrix_attention(None, q, k, v, 2), False),
        (causal_attention(q, k, v, 2, None), True),
    ):
        expected = torch.nn.functional.scaled_dot_product_attention(*heads, is_causal=causal)
        assert (ours - expected.transpose(1, 2).flatten(2)).abs().max() < 1e-5


def test_the_caption_encoder_encodes_as_the_hosts_text_encoder(
    tiny_family: None, models: Path, shipped_checkpoint: dict[str, torch.Tensor]
) -> None:
    whole = unpack(shipped_checkpoint)
    tokens = host_tokens()
    text = {k.removeprefix(CLIP_PREFIX): v for k, v in whole.items() if k.startswith(CLIP_PREFIX)}
    encoder = CaptionEncoder(tokens.used, {k: v for k, v in text.items() if k.startswith(HOST_TEXT_PREFIX)})
    clip = comfy.sd.load_checkpoint_guess_config(str(models / CHECKPOINT))[1]
    caption = "a red circle moving left on a cloudy gray background"
    expected, _ = clip.encode_from_tokens(clip.tokenize(caption), return_pooled=True)
    with torch.no_grad():
        found = encoder(tokens([caption]))
    assert (found - expected.float()).abs().max() < 1e-3 * expected.abs().max()
    again = encoder.checkpoint()
    table = "text_model.embeddings.token_embedding.weight"
    assert torch.equal(again[table][tokens.used], text[table][tokens.used])


def test_clips_are_denoised_in_training_as_the_pack_does_it_in_the_host(
    tiny_family: None, models: Path, shipped_checkpoint: dict[str, torch.Tensor]
) -> None:
    model = comfy.sd.load_checkpoint_guess_config(str(models / CHECKPOINT))[0]
    model = apply_motion_module(model, load_motion_module(str(models / MOTION_MODULE)))
    unet = make_unet(
        {k.removeprefix(UNET_PREFIX): v for k, v in shipped_checkpoint.items() if k.startswith(UNET_PREFIX)}
    )
    weights = load_file(FOLDER / SHIPPED[MOTION_MODULE])
    module = make_motion_module({k: v.float() for k, v in weights.items() if "pos_encoder" not in k})
    x, context = (
        torch.randn(16, 4, 8, 8, generator=seeded("x")),
        torch.randn(1, 77, 128, generator=seeded("c")),
    )
    timestep = torch.tensor([500])
    sigma = make_tables()["sqrt_linear"][timestep]
    scaled = x * (1 + sigma**2).sqrt()
    with torch.no_grad():
        host = components.predict(model, scaled, sigma.item(), context=context)
        noise = denoise_clips(unet, module, x[None], timestep.float(), context)[0]
    ours = model.get_model_object("model_sampling").calculate_denoised(sigma, noise, scaled)
    assert (host - ours).abs().max() < 2e-3 * ours.abs().max()


def test_some_frames_of_a_clip_are_seen_at_their_own_positions() -> None:
    """Eight frames picked out of sixteen, all the same: as those frames of the whole where frames don't mix."""
    module = make_motion_module(None)
    tables = {
        name: part.positions.clone() for name, part in module.named_modules() if hasattr(part, "positions")
    }
    picker = FramePicker(module)
    picked = torch.tensor([1, 2, 5, 7, 8, 11, 14, 15])
    picker.pick(picked)
    for name, part in module.named_modules():
        if hasattr(part, "positions"):
            assert torch.equal(part.positions, tables[name][:, picked])
    picker.all()
    for name, part in module.named_modules():
        if hasattr(part, "positions"):
            assert torch.equal(part.positions, tables[name])
