"""`fleet up` as a user runs it, and what can be asked of it."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx

from ...fleet.worker import free_port
from .local_ray import LocalRay
from .sleeper import APP, TURBO, command, environment, line, run


class Up:
    """`fleet up` in a folder, and what can be asked of it."""

    def __init__(self, ray: LocalRay, base: Path, folder: Path, *more: str) -> None:
        self.env = environment(base, ray.env)
        self.ray, self.folder, self.port = ray, folder, free_port()
        where = [*("--folder", folder, "--port", str(self.port)), *("--warm", TURBO, "--hang-seconds", "5")]
        self._command = command("command", "up", "--ray", ray.address, *where, *more)
        self._process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(timeout=60, base_url=f"http://127.0.0.1:{self.port}/fal")

    def start(self) -> Up:
        with (self.folder / "up.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self.env, stdout=log, stderr=log)
        return self

    @property
    def log(self) -> str:
        return (self.folder / "up.log").read_text()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process
        return self._process

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def fleet(self, name: str, *arguments: str) -> str:
        done = run("command", name, "--ray", self.ray.address, *arguments, env=self.env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def workers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.fleet("status", "--json"))
        return found

    def until_ready(self, count: int) -> None:
        """Until the front has so many workers that take requests. Its own numbers are asked: `status` starts Ray anew each
        time, which holds up on a small machine what is waited for."""
        wait_until(lambda: self._taking() == count, lambda: self.log)

    def _taking(self) -> int:
        try:
            numbers = self.http.get("/metrics").text
        except httpx.TransportError:
            return 0
        return sum(map(int, re.findall(r'_workers\{state="(?:idle|busy)"\} (\d+)', numbers)))

    def submit(self, seed: int, **given: Any) -> str:
        body = line(seed=seed, **given)["input"]
        answer = self.http.post(f"/queue/{TURBO}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["request_id"]

    def time_of_day(self) -> float:
        """In seconds since 1970, as the front knows it."""
        return parsedate_to_datetime(self.http.get("/health").headers["Date"]).timestamp()

    def status(self, request_id: str) -> str:
        """ "" while nobody answers."""
        try:
            return str(self.http.get(f"/queue/{APP}/requests/{request_id}/status").json().get("status", ""))
        except httpx.TransportError:
            return ""

    def until_completed(self, request_id: str) -> None:
        wait_until(lambda: self.status(request_id) == "COMPLETED", lambda: self.log)

    def video(self, request_id: str) -> bytes:
        """The result, once it is there."""
        self.until_completed(request_id)
        answer = self.http.get(f"/queue/{APP}/requests/{request_id}")
        assert answer.status_code == 200, answer.text
        return self.http.get(answer.json()["video"]["url"]).content


def wait_until(holds: Callable[[], bool], said: Callable[[], str], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, said()
        time.sleep(0.2)
