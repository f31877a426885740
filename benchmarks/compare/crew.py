"""The contenders' processes, seen from the one that measures: started, asked one after the other, stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .jobs import Job

RUN = Path(__file__).resolve().parents[1] / "run.py"
LINES_OF_LOG = 12


class WorkerError(RuntimeError):
    """A contender's process ended; the message has the end of its log."""


@dataclass(frozen=True)
class Entry:
    """A contender in one precision. name: unique, as in the tables. setting: for its process, as JSON."""

    name: str
    title: str
    dtype: str
    setting: dict[str, Any]

    @property
    def contender(self) -> str:
        return self.setting["contender"]


class Process:
    def __init__(self, entry: Entry, log: Path) -> None:
        self.entry, self.log = entry, log
        self.started = time.perf_counter()
        self.loaded: dict[str, Any] = {}
        self.warm: set[str] = set()  # the cells that it has run once
        env = {**os.environ, "OMP_NUM_THREADS": str(entry.setting["threads"]), "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, str(RUN), "--worker"]
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=env, text=True
            )
        self.ask("setting", **entry.setting)

    def ask(self, command: str, **values: Any) -> dict[str, Any]:
        jobs = {key: asdict(value) if isinstance(value, Job) else value for key, value in values.items()}
        try:
            self.process.stdin.write(json.dumps([command, jobs]) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.stop()
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
            raise WorkerError("\n".join(lines[-LINES_OF_LOG:]) or f"{self.entry.name} ended without a word")
        return json.loads(line)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            stream.close()


class Crew:
    """Keeps processes alive between questions; no more than `room` at once, the oldest goes first."""

    def __init__(self, logs: Path, room: int, launch: Callable[[Entry, Path], Process] = Process) -> None:
        self.logs, self.room, self.launch = logs, room, launch
        self._alive: dict[str, Process] = {}

    def start(self, entry: Entry) -> Process:
        """The entry's process, loaded.

        Errors: WorkerError; LookupError with the reason where the contender can't run here.
        """
        if entry.name not in self._alive:
            while len(self._alive) >= self.room:
                self.stop(next(iter(self._alive)))
            process = self.launch(entry, self.logs / f"{entry.name.replace(' ', '-')}.log")
            process.loaded = process.ask("load")
            if "skipped" in process.loaded:
                process.stop()
                raise LookupError(process.loaded["skipped"])
            self._alive[entry.name] = process
        return self._alive[entry.name]

    def cold(self, entry: Entry) -> Process:
        """A process of its own that nobody keeps."""
        return self.launch(entry, self.logs / f"{entry.name.replace(' ', '-')}-cold.log")

    def ask(self, entry: Entry, command: str, **values: Any) -> dict[str, Any]:
        process = self.start(entry)
        try:
            return process.ask(command, **values)
        except WorkerError:
            del self._alive[entry.name]
            raise

    def stop(self, *names: str) -> None:
        """Ends the named processes, or all."""
        for name in names or list(self._alive):
            if name in self._alive:
                self._alive.pop(name).stop()


def room_for(entries: Sequence[Entry], gigabytes: float) -> int:
    """How many of these processes fit into the memory that is free now."""
    import psutil

    free = psutil.virtual_memory().available / 1e9
    return max(1, min(len(entries), int(0.85 * free / gigabytes)))
