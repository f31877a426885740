"""The log of a request: a line for each phase of its prompt and for each sampling step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

from .comfyui import Event

MOST_LINES = 1000
PHASES = {"decode": "Decoding the video", "sampling": "Sampling", "encode": "Encoding the video"}


@dataclass
class Log:
    """Lines as the service gives them: message, level, source, timestamp."""

    lines: list[dict[str, str]] = field(default_factory=list)

    def say(self, message: str, level: str = "INFO") -> None:
        if len(self.lines) < MOST_LINES:
            time = datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
            line = {"message": message, "level": level, "source": "USER", "timestamp": time}
            self.lines.append(line)

    def follow(self, phases: Mapping[str, str], event: Event) -> None:
        """Adds a line for an event. phases: by node id; other nodes take no time worth telling."""
        phase = phases.get(event.node_id or "")
        if phase == "sampling" and event.total:
            self.say(f"Sampling: step {event.step} of {event.total}")
        elif phase and not event.total:
            self.say(PHASES[phase])
