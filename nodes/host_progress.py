"""The host's progress bar and cancel button for loops outside the samplers."""

from __future__ import annotations

from collections.abc import Callable

import comfy.model_management
import comfy.utils


def host_progress() -> Callable[[int, int], None]:
    """A `progress(done, total)` that moves the node's bar and raises when the user cancels the run."""
    bar = comfy.utils.ProgressBar(1)

    def report(done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, max(total, 1))

    return report
