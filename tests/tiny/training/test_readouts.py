"""Linear readouts: they tell places and flow from features, and change nothing that is made."""

from __future__ import annotations

import pytest
import torch

from fast_animatediff.tiny.domain.motions import CAMERA_RATES, content_flow
from fast_animatediff.tiny.domain.scenes import seeded
from fast_animatediff.tiny.training.networks import (
    denoise_pictures,
    make_motion_module,
    make_unet,
)
from fast_animatediff.tiny.training.readouts import FlowReadouts, PlaceReadouts

pytestmark = pytest.mark.slow

UNET_PREFIX = "model.diffusion_model."


def test_the_shipped_unet_tells_where_a_place_is_and_readouts_leave_its_picture_alone(
    shipped_checkpoint: dict[str, torch.Tensor],
) -> None:
    unet = make_unet(
        {
            key.removeprefix(UNET_PREFIX): value
            for key, value in shipped_checkpoint.items()
            if key.startswith(UNET_PREFIX)
        }
    )
    rng = seeded("places")
    x, context = torch.randn(8, 4, 8, 8, generator=rng), torch.randn(8, 77, 128, generator=rng)
    timesteps = torch.linspace(0, 900, 8).long()
    readouts = PlaceReadouts()
    untold = []
    optimizer = torch.optim.Adam(readouts.parameters(), lr=0.02)
    with torch.no_grad():
        alone = denoise_pictures(unet, x, timesteps, context)
    for _ in range(60):
        with torch.no_grad():
            heard = denoise_pictures(unet, x, timesteps, context, **readouts.patches())
        assert torch.equal(heard, alone)
        loss = readouts.loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        untold.append(loss.item())
    # Before stage `places` 0.30 were left.
    assert untold[0] == pytest.approx(1.0, rel=1e-4) and untold[-1] < 0.1


def test_readouts_learn_a_cameras_flow_from_a_module_and_only_while_they_listen() -> None:
    module = make_motion_module(None).requires_grad_(False)
    readouts = FlowReadouts(module)
    layer = module.at(("input", 1))
    x = torch.randn(2 * 16, 64, 8, 8, generator=seeded("readouts"))
    x[:, :2] = torch.stack(torch.meshgrid(torch.linspace(-3, 3, 8), torch.linspace(-3, 3, 8), indexing="xy"))
    zoom = content_flow("zoom", 8) / CAMERA_RATES["pan"]
    optimizer = torch.optim.Adam(readouts.parameters(), lr=0.03)
    losses = []
    for _ in range(60):
        readouts.listen()
        layer(x, 16)
        loss = readouts.loss(
            2, lambda side: (content_flow("zoom", side) / CAMERA_RATES["pan"], torch.ones(1))
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(zoom.square().mean().item(), rel=1e-4) and losses[-1] < 0.2 * losses[0]
    layer(x, 16)
    with pytest.raises(RuntimeError, match="heard nothing"):
        readouts.loss(2, lambda side: (content_flow("zoom", side), torch.ones(1)))
