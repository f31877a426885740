"""Shows a prompt's progress on the console: one live line in a terminal, elsewhere a line now and then."""

from __future__ import annotations

import shutil
import sys
import time

from .client import Progress

SECONDS_BETWEEN_LINES = 5.0


class Console:
    """Call it with each Progress of one prompt, and `close` it when the prompt is done."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._node_id = ""
        self._shown_at = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        begins = progress.node_id != self._node_id
        done = progress.total > 0 and progress.step >= progress.total
        if not (self._live or begins or done or now > self._shown_at + SECONDS_BETWEEN_LINES):
            return
        if begins and self._node_id and self._live:
            print()
        self._node_id, self._shown_at = progress.node_id, now
        steps = f"  step {progress.step}/{progress.total}" if progress.total else ""
        text = f"    {progress.title}{steps}"
        width = shutil.get_terminal_size().columns - 1
        print(
            f"\r{text[:width]:<{width}}" if self._live else text, end="" if self._live else "\n", flush=True
        )

    def close(self) -> None:
        if self._live and self._node_id:
            print()
