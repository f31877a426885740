"""A Ray cluster of several nodes on this machine, in a session of its own, all of whose processes are gone at the end."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from ...fleet.worker import free_port
from .settable_clock import SettableClock

SECONDS = 120.0  # for anything, on a busy machine
LITTLE = (
    "--num-cpus",
    "1",
    "--object-store-memory",
    "80000000",
    "--disable-usage-stats",
    "--include-log-monitor",
    "false",
)


class LocalRay:
    """A head, and more nodes. A context manager; bin: the folder of the environment that has Ray. gpus: that each node
    claims to have. clock: that all processes go by."""

    def __init__(self, folder: Path, bin: Path, gpus: int = 0, clock: SettableClock | None = None) -> None:
        self.folder, self.bin, self.gpus = folder, bin, gpus
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.env |= {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "FAD_RAY_PYTHON": str(bin / "python"),
            "FAD_FLEET_TEST": secrets.token_hex(8),  # marks every process that comes of it
        }
        self.clock = clock
        self.env |= clock.env if clock else {}
        self.nodes: list[subprocess.Popen[bytes]] = []

    def start_head(self) -> None:
        # Sockets have short names; below pytest's folders they would not fit.
        head = (
            "--head",
            "--port",
            str(self.port),
            "--include-dashboard",
            "false",
            "--temp-dir",
            str(self._temp),
        )
        self._start(*head)
        self._wait_for_port()

    def start_node(self) -> subprocess.Popen[bytes]:
        return self._start("--address", self.address)

    @property
    def _temp(self) -> Path:
        return Path("/tmp") / f"fad-ray-{self.port}"

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / "ray.log").open("ab") as log:
            node = subprocess.Popen(
                [self.bin / "ray", "start", "--block", *arguments, *LITTLE, "--num-gpus", str(self.gpus)],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.nodes.append(node)
        return node

    def _wait_for_port(self) -> None:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self.nodes[-1].poll() is None, (self.folder / "ray.log").read_text()
                time.sleep(0.2)
        raise TimeoutError("Ray's head did not start")

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """As a machine that loses its power: every process of the node, at once."""
        self.nodes.remove(node)
        kill_all(descendants(node.pid))
        node.wait()

    def processes(self) -> list[int]:
        """Every process that was started with this cluster's environment, by whomever, or that writes its logs: the title that
        Ray gives to an agent may lie over the environment."""
        mark = f"FAD_FLEET_TEST={self.env['FAD_FLEET_TEST']}".encode()
        return [
            pid
            for pid in pids()
            if mark in read_bytes(pid, "environ").split(b"\0")
            or any(self._temp in file.parents for file in open_files(pid))
        ]

    def stop(self) -> None:
        deadline = time.monotonic() + SECONDS
        while (left := self.processes()) and time.monotonic() < deadline:
            kill_all(left)
            for node in self.nodes:
                node.poll()
            time.sleep(0.2)
        shutil.rmtree(self._temp, ignore_errors=True)

    def __enter__(self) -> LocalRay:
        try:
            self.start_head()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def read_bytes(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def open_files(pid: int) -> list[Path]:
    found = []
    with suppress(OSError):  # the process is gone by now
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # the file is
                found.append(Path(os.readlink(link)))
    return found


def descendants(root: int) -> list[int]:
    """The process and all that come of it."""
    parents = {}
    for pid in pids():
        stat = read_bytes(pid, "stat").rpartition(b")")[2].split()
        if stat:
            parents[pid] = int(stat[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def kill_all(processes: list[int]) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
