"""What a request's log says: one line for every phase of its prompt, one for every sampling step."""

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
        """Adds what an event means to a reader. phases: by node id; the other nodes take no time to speak of."""
        phase = phases.get(event.node_id or "")
        if phase == "sampling" and event.total:
            self.say(f"Sampling: step {event.step} of {event.total}")
        elif phase and not event.total:
            self.say(PHASES[phase])
