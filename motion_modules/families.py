"""The published families of SD1.5 motion modules and what each was trained with."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Family:
    """What a motion module needs from its surroundings.

    name: as people call it.
    frames: the longest clip it renders well in one piece; longer clips are windowed.
    window: frames of one such window, the length the module was trained on.
    lcm_steps: original steps of its consistency table, None for ordinary sampling.
    lightning_steps: steps that a Lightning module was distilled to (0: unknown), None for the others.
    norm_across_frames: the UNet's ResBlock and output norms run across the frames, as v1 was trained
        (guoyww/AnimateDiff, `use_inflated_groupnorm: false`).
    """

    name: str
    frames: int = 32
    window: int = 16
    lcm_steps: int | None = None
    lightning_steps: int | None = None
    norm_across_frames: bool = False

    @property
    def overlap(self) -> int:
        """Frames that two neighbouring context windows share."""
        return self.window // 4


V1 = Family("AnimateDiff v1", frames=24, norm_across_frames=True)
V2 = Family("AnimateDiff v2")
V3 = Family("AnimateDiff v3")
LONG_32 = Family("LongAnimateDiff 32", frames=32, window=32)
LONG_64 = Family("LongAnimateDiff 64", frames=64, window=64)
# The authors' table has 64 positions; the training clips had 16 frames and the published config says 32.
ANIMATE_LCM = Family("AnimateLCM", lcm_steps=100)
LIGHTNING = Family("AnimateDiff-Lightning", lightning_steps=0)


def lightning(steps: int) -> Family:
    """The Lightning family distilled to `steps` steps."""
    return replace(LIGHTNING, lightning_steps=steps)
