"""Camera movement in a clip, by registration of its frames: the shift, turn and scale that map one onto another.

Lucas and Kanade's method (1981) for similarity transforms, from coarse to fine, on brightness. What does not fit, such as
a subject that moves on its own, loses its weight.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .motions import CAMERA_RATES

GAP = 2  # frames between the two of a pair
LEVELS = (4, 2, 1)  # pixels per pixel of each level
ITERATIONS = 8
OUTLIER = 0.4  # in standard deviations of brightness: where a pixel's weight is halved
MOVES = 0.3  # of the rates that the motion LoRAs are trained with: less is a camera at rest


def camera_rates(clip: Tensor, subject: Tensor | None = None) -> dict[str, float]:
    """The camera's rates, per frame, as in CAMERA_RATES: zoom (log), pan and tilt (sides), roll (radians).

    Args:
        clip: (f, 3, h, w), more than GAP frames.
        subject: (f, h, w), True where the pixels don't belong to the scene.
    """
    gray = clip.float().mean(dim=1, keepdim=True)
    weight = torch.ones_like(gray) if subject is None else (~subject[:, None]).float()
    weight = 1 - F.max_pool2d(1 - weight, 5, stride=1, padding=2)
    x, y, scale, turn = register(gray[:-GAP], gray[GAP:], weight[:-GAP] * weight[GAP:]).median(0).values / GAP
    # The content moves opposite to the camera.
    return {"zoom": scale.item(), "pan": -x.item(), "tilt": -y.item(), "roll": -turn.item()}


def camera_move(rates: dict[str, float]) -> tuple[str, float] | None:
    """The axis that the camera moves along and how fast, 1 being the LoRAs' own rate; None for a camera at rest."""
    speeds = {axis: rate / CAMERA_RATES[axis] for axis, rate in rates.items()}
    axis = max(speeds, key=lambda name: abs(speeds[name]))
    return (axis, speeds[axis]) if abs(speeds[axis]) >= MOVES else None


def register(before: Tensor, after: Tensor, weight: Tensor) -> Tensor:
    """How the content moves from one picture to the next: (n, 4) of x, y (sides), log of the scale, turn (clockwise).

    before, after, weight: (n, 1, h, w).
    """
    moves = torch.zeros(len(before), 4)
    for pixels in LEVELS:
        first, second = (_normalise(F.avg_pool2d(blur(gray), pixels)) for gray in (before, after))
        small = F.avg_pool2d(weight, pixels)
        for _ in range(ITERATIONS):
            moves = moves + _improvement(first, second, small, moves)
    return moves


def blur(gray: Tensor) -> Tensor:
    """Blurred by about 1.2 pixels."""
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = torch.outer(kernel, kernel)[None, None]
    return F.conv2d(F.pad(gray, (2, 2, 2, 2), mode="replicate"), kernel)


def _normalise(gray: Tensor) -> Tensor:
    mean, spread = gray.mean(dim=(2, 3), keepdim=True), gray.std(dim=(2, 3), keepdim=True)
    return (gray - mean) / (spread + 1e-3)


def _improvement(before: Tensor, after: Tensor, weight: Tensor, moves: Tensor) -> Tensor:
    """One Gauss-Newton step."""
    n, _, height, width = before.shape
    v, u = torch.meshgrid(_middles(height), _middles(width), indexing="ij")
    x, y, scale, turn = (part[:, None, None] for part in moves.unbind(1))
    cos, sin = scale.exp() * turn.cos(), scale.exp() * turn.sin()
    to_x, to_y = cos * u - sin * v, sin * u + cos * v  # from the middle, without the shift
    grid = 2 * torch.stack([to_x + x, to_y + y], dim=-1)
    slope_x, slope_y = _slopes(after)
    stack = torch.cat([after, slope_x, slope_y, weight], dim=1)
    # Beyond the edge there is nothing to compare: the weight is 0 there.
    warped, slope_x, slope_y, seen = F.grid_sample(stack, grid, align_corners=False).unbind(1)
    jacobian = torch.stack(
        [slope_x, slope_y, slope_x * to_x + slope_y * to_y, slope_y * to_x - slope_x * to_y], dim=-1
    )
    error = before[:, 0] - warped
    trust = weight[:, 0] * seen / (1 + (error / OUTLIER) ** 2)
    weighted = (jacobian * trust[..., None]).flatten(1, 2).transpose(1, 2)  # (n, 4, p)
    normal = weighted @ jacobian.flatten(1, 2) + 1e-3 * torch.eye(4)
    return torch.linalg.solve(normal, weighted @ error.flatten(1)[..., None])[..., 0]


def _middles(side: int) -> Tensor:
    return (torch.arange(side) + 0.5) / side - 0.5


def _slopes(gray: Tensor) -> tuple[Tensor, Tensor]:
    """Brightness per side, along x and along y."""
    padded = F.pad(gray, (1, 1, 1, 1), mode="replicate")
    height, width = gray.shape[2:]
    return (
        (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) * width / 2,
        (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) * height / 2,
    )
