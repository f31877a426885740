"""A contender's process that runs in the test's own, and contenders that are known to be wrong or absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fast_animatediff.benchmarks.compare import worker
from fast_animatediff.benchmarks.compare.contender import SkippedError
from fast_animatediff.benchmarks.compare.crew import Entry, WorkerError
from fast_animatediff.benchmarks.compare.jobs import Job


class InThisProcess:
    """Answers as crew.Process does."""

    contenders: dict[str, Any] = {}  # by the entry's name, where it is not the real one

    def __init__(self, entry: Entry, log: Path) -> None:
        self.entry, self.warm, self.loaded, self.asked = entry, set(), {}, []
        self.started = 0.0
        self.worker = worker.Worker(worker.read_setting(entry.setting))

    def ask(self, command: str, **values: Any) -> dict[str, Any]:
        self.asked.append(command)
        stand_in = self.contenders.get(self.entry.name)
        if command == "load" and stand_in is not None:
            self.worker.contender = stand_in
            return {"version": "stand-in", "seconds": 0.0}
        try:
            return getattr(self.worker, command)(**values)
        except SkippedError as error:
            return {"skipped": str(error)}
        except ArithmeticError as error:
            raise WorkerError(str(error)) from error

    def stop(self) -> None:
        pass


def entry(contender: str, folder: Path, name: str | None = None, peer: Path | None = None) -> Entry:
    setting = {
        "contender": contender, "folder": str(folder), "host": str(folder), "size": "test", "device": "cpu",
        "dtype": "fp32", "threads": 1, "peer": str(peer) if peer else None,
    }  # fmt: skip
    return Entry(name or f"{contender} fp32", contender, "fp32", setting)


SMALL = Job(frames=4, width=64, height=64, steps=2)
