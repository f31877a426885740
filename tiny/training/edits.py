"""Stage `edits`: the motion module and its LoRAs once more, now also on noise that holds a subject other than the one asked for.

That is what video to video does. Through much noise, latents of 8x8 show only what one looks for. Trained on clips that match
their captions, at strength 0.7 in training's own sampler, subjects that were to stay as they are kept their paths in 14 of 16
clips, but only in 6 of 16 where another colour was asked for: guidance by words finds nothing of that colour to hold on to.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..domain.motions import CAMERA_RATES
from ..domain.scenes import LENGTHS
from .cameras import FILE as CAMERAS_FILE
from .cameras import CameraStage, CameraStep, RestStep
from .data import edited_clips
from .diffusion import add_noise, draw_noise, draw_timesteps, expand, noise_loss, subject_weights
from .motion import EARLY_NOISE, FRAMES
from .networks import denoise_clips

FILE = "edits.safetensors"
# From this timestep on, the target is what is asked for instead of what is shown; below, it is too late. With 350 the words no longer
# finished the repainting: at strength 0.7 colours came out as asked in 58 % of clips.
TOO_LATE = 150


@dataclass(frozen=True)
class EditStep:
    """A step on clips of other subjects than their captions name."""

    frames: int


WORDS = (RestStep(True, FRAMES // 2, EARLY_NOISE), *[RestStep(True, FRAMES, EARLY_NOISE)] * 2)
EDITS = (EditStep(FRAMES), EditStep(FRAMES), EditStep(max(LENGTHS)))


def kind_of_step(step: int) -> RestStep | EditStep | CameraStep:
    """Of eight steps three are about words, three are edits, two are of a camera, forwards and then backwards."""
    turn, place = divmod(step, 8)
    if place < 3:
        return WORDS[place]
    if place < 6:
        return EDITS[place - 3]
    return CameraStep(tuple(CAMERA_RATES)[turn % len(CAMERA_RATES)], 1.0 if place == 6 else -1.0)


class EditStage(CameraStage):
    """Continues with the module and the LoRAs of `cameras`. Its samples show cameras, too."""

    name, source_file, file = "edits", CAMERAS_FILE, FILE
    loras_from = CameraStage.name

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        kind = kind_of_step(step)
        if isinstance(kind, EditStep):
            error = self._edit_loss(step, kind)
            return error, {"edits": error.item()}
        return self.loss_of(step, kind)

    def _edit_loss(self, step: int, kind: EditStep) -> Tensor:
        self.select(None)
        clips = max(self.plan.batch * FRAMES // kind.frames, 1)
        batch, shown_instead = edited_clips(
            self.seed, self.name, step, clips, kind.frames, self.networks.size, self.device
        )
        asked, context = self.networks.prepare(batch)
        shown = self.networks.encode(shown_instead.clips)
        noise, timesteps = draw_noise(batch.rng, shown), draw_timesteps(batch.rng, clips).to(self.device)
        sigma = self.networks.sigmas[timesteps]
        self.picker.pick(batch.frames)
        with torch.autocast(self.device.type, torch.bfloat16):
            predicted = denoise_clips(
                self.networks.unet, self.module, add_noise(shown, noise, sigma), timesteps, context
            )
        self.picker.all()
        wanted = noise_to_take_away(shown, asked, noise, timesteps, sigma)
        # Where only the subject that is shown instead was counts as background.
        return noise_loss(predicted, wanted, sigma, subject_weights(batch.clips))


def noise_to_take_away(
    shown: Tensor, asked: Tensor, noise: Tensor, timesteps: Tensor, sigma: Tensor
) -> Tensor:
    """The noise that leaves the wanted clips of shown + sigma * noise. All clips (n, f, 4, h, w), timesteps, sigma (n,)."""
    wanted = torch.where(expand(timesteps >= TOO_LATE, shown), asked, shown)
    return noise + (shown - wanted) / expand(sigma, shown)
