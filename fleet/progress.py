"""How a render gets on: a live line on a terminal, else one now and then, JSON lines for programs; and what came of it."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any, TextIO

from .ledger import Clip

LINE_SECONDS = 10.0  # between lines where there is no terminal
RATE_CLIPS = 50  # the last ones, from which the time left is estimated
SHOWN = 10  # failures and slowest clips in the report


@dataclass
class Progress:
    """total: clips of the manifest; skipped: those that were there already. step and steps: of the clips that run."""

    total: int
    skipped: int = 0
    done: int = 0
    failed: int = 0
    running: int = 0
    workers: int = 0
    began: float = field(default_factory=time.monotonic)
    ends: deque[float] = field(default_factory=lambda: deque(maxlen=RATE_CLIPS))

    def ended(self, done: bool) -> None:
        if done:
            self.done += 1
            self.ends.append(time.monotonic())
        else:
            self.failed += 1

    @property
    def left(self) -> int:
        return self.total - self.skipped - self.done - self.failed

    def per_minute(self) -> float | None:
        """Clips made a minute, of late; None before the first."""
        if not self.ends:
            return None
        first = self.began if len(self.ends) < RATE_CLIPS else self.ends[0]
        counted = len(self.ends) if len(self.ends) < RATE_CLIPS else RATE_CLIPS - 1
        return 60.0 * counted / max(1e-3, time.monotonic() - first)

    def seconds_left(self) -> float | None:
        rate = self.per_minute()
        return None if not rate else 60.0 * self.left / rate

    def line(self) -> str:
        parts = [f"{self.skipped + self.done} of {self.total} done", f"{self.running} running"]
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{self.workers} worker{'' if self.workers == 1 else 's'}"]
        rate, left = self.per_minute(), self.seconds_left()
        if rate and left is not None:
            parts += [f"{rate:.1f} clips a minute", f"{duration(left)} left"]
        return ", ".join(parts)

    def values(self) -> dict[str, Any]:
        names = ("total", "skipped", "done", "failed", "running", "workers")
        rates = {"clips_per_minute": self.per_minute(), "seconds_left": self.seconds_left()}
        return {name: getattr(self, name) for name in names} | rates


class Display:
    """Writes to the console, or JSON lines with an `event` each."""

    def __init__(self, as_json: bool, out: TextIO = sys.stdout) -> None:
        self._json, self._out = as_json, out
        self._live = not as_json and out.isatty()
        self._said = 0.0

    def show(self, progress: Progress) -> None:
        """To be called often; shows what is due."""
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            print("\r" + progress.line()[:width].ljust(width), end="", file=self._out, flush=True)
        elif time.monotonic() - self._said >= LINE_SECONDS:
            self._said = time.monotonic()
            self.say(progress.line(), "progress", **progress.values())

    def say(self, text: str, event: str, **values: Any) -> None:
        if self._json:
            print(json.dumps({"event": event, **values}), file=self._out, flush=True)
        else:
            clear = "\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r" if self._live else ""
            print(clear + text, file=self._out, flush=True)

    def ended(self, clip: Clip) -> None:
        if self._json or clip.state == "failed":
            self.say(f"{clip.name} failed: {clip.reason}", clip.state, **asdict(clip))

    def report(self, progress: Progress, clips: list[Clip]) -> None:
        """What is there at the end. clips: all of the manifest."""
        failed = [clip for clip in clips if clip.state == "failed"]
        slow = sorted((clip for clip in clips if clip.seconds), key=lambda clip: -(clip.seconds or 0))[:SHOWN]
        made = sum(clip.state == "done" for clip in clips)
        lines = [f"Made: {made} of {progress.total}, {progress.skipped} of them before."]
        if failed:
            lines.append(f"{len(failed)} failed:")
            lines += [f"  {clip.name} ({clip.attempts} attempts): {clip.reason}" for clip in failed[:SHOWN]]
            lines += [f"  and {len(failed) - SHOWN} more"] if len(failed) > SHOWN else []
        if progress.done and slow:
            lines.append("Slowest:")
            lines += [f"  {clip.name}: {clip.seconds:.1f} s on {clip.node}" for clip in slow[:3]]
        values = {"failures": [asdict(clip) for clip in failed], "slowest": [asdict(clip) for clip in slow]}
        self.say("\n".join(lines), "report", **{**progress.values(), **values, "made": made})


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
