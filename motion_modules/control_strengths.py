"""How strongly a ControlNet acts on each frame of a clip, and where in the picture. Core has one number for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .frame_values import FrameValues
from .host_internals import ControlBase, ControlIsolation
from .sampling_run import check_is_whole, frames_in_call, frames_of_clip, window_params

MOST = 10.0  # as in core's Apply ControlNet


class FrameStrengths(ControlBase):
    """A link behind a control in the host's chain. It weights what that control adds, frame by frame.

    As the control is its `previous_controlnet`, the host loads, prepares and frees it as ever.
    """

    def __init__(self, strength: FrameValues) -> None:
        super().__init__()
        self.frame_strength = strength

    def copy(self) -> FrameStrengths:
        copied = FrameStrengths(self.frame_strength)
        self.copy_to(copied)
        return copied

    def deepclone_multigpu(self, load_device: Any, autoregister: bool = False) -> FrameStrengths:
        cloned = self.copy()
        if autoregister:
            self.multigpu_clones[load_device] = cloned
        return cloned

    def get_control(
        self, x_noisy: Tensor, t: Tensor, cond: dict, batched_number: int, transformer_options: dict
    ) -> dict[str, list[Tensor | None]] | None:
        """What the chain adds to the UNet's features: lists of (b * f, c, h, w) by part of the UNet.

        A window without any strength costs nothing: the control does not run.
        Errors: ValueError where the numbers don't fit the clip.
        """
        call = (x_noisy, t, cond, batched_number, transformer_options)
        weighted: Any = self.previous_controlnet
        control = weighted
        while isinstance(control, FrameStrengths):
            control = control.previous_controlnet
        chained = control.previous_controlnet
        earlier = None if chained is None else chained.get_control(*call)
        if self.frame_strength.mask is not None:
            check_is_whole(x_noisy, transformer_options, "ControlNet Strength")
        length = frames_of_clip(x_noisy, transformer_options)
        frames = frames_in_call(length, window_params(length, transformer_options))
        if not any(self.frame_strength.numbers_at(*frames)):
            return earlier
        with ControlIsolation(control):
            given = weighted.get_control(*call)
        return earlier if given is None else self.control_merge(self._weighted(given, *frames), earlier, None)

    def _weighted(
        self, given: dict[str, list[Tensor | None]], frames: Sequence[int], clip_length: int
    ) -> dict[str, list[Tensor | None]]:
        """Amounts are made once for each size of the features, as a copy to the card waits for it."""
        amounts: dict[tuple[int, ...], Any] = {}

        def weighted(x: Tensor | None) -> Tensor | None:
            if x is None:
                return None
            if x.ndim != 4:
                raise ValueError(
                    "ControlNet Strength takes ControlNets for SD1.5; this one is for another model."
                )
            size = tuple(x.shape[-2:]) if self.frame_strength.mask is not None else ()
            if size not in amounts:
                amounts[size] = self.frame_strength.at(frames, clip_length, x)
            amount = amounts[size]
            if isinstance(amount, Tensor):
                amount = amount.to(x.dtype).repeat(len(x) // len(frames), 1, 1, 1)
            return x * amount

        return {part: [weighted(x) for x in features] for part, features in given.items()}


def with_control_strength(
    conditionings: Sequence[list], strength: float | Sequence[float], mask: Tensor | None = None
) -> list[list]:
    """Conditionings whose last ControlNet acts this strongly, times its own strength: a number, or one a frame.

    Errors: ValueError where none has a ControlNet, or a number is out of range.
    """
    values = FrameValues.make("strength", strength, MOST, mask)
    links: dict[int, FrameStrengths] = {}  # the host runs cond and uncond at once where they share the object

    def linked(options: dict) -> dict:
        control = options.get("control")
        if control is None:
            return options
        link = links.setdefault(id(control), FrameStrengths(values))
        return options | {"control": link.set_previous_controlnet(control)}

    found = [[[prompt, linked(options)] for prompt, options in rows] for rows in conditionings]
    if not links:
        raise ValueError(
            "Neither positive nor negative has a ControlNet. Connect both outputs of Apply ControlNet to ControlNet "
            "Strength."
        )
    return found
