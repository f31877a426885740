"""A real ComfyUI server as a child process, in folders of its own, that never outlives the process that started it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import aiohttp

from ..fleet.worker import QUIET_THREADS, end_process, free_port, read_log
from .client import Client
from .host import FOLDERS, ROOT

CHILD = ROOT / "bootstrap" / "comfy_child.py"


class ComfyServer:
    """ComfyUI on 127.0.0.1, on the processor, reading and writing only under a base directory.

    A context manager: the server is ready when the block begins and gone when it ends, whatever ends it.

    host: ComfyUI's own folder. base: the directory with models, input, output, custom_nodes; made if missing.
    port: 0 takes a free one. options: more of main.py's arguments.
    base_url, client, pid and log_path are there from start() on.
    """

    def __init__(self, host: Path, base: Path, port: int = 0, options: Sequence[str] = ()) -> None:
        self.host, self.base, self.options = host.resolve(), base.resolve(), list(options)
        self.port = port
        self.log_path = self.base / "comfyui.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def client(self) -> Client:
        return Client(self.base_url)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log_text(self) -> str:
        """What the server has said so far, without colours."""
        if not self.log_path.exists():
            return ""
        return read_log(self.log_path)

    def start(self, timeout: float = 180.0) -> None:
        """Starts the server and waits until it answers. Errors: RuntimeError with the end of its log."""
        for name in FOLDERS:
            (self.base / name).mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(),
                cwd=self.host,
                env={**QUIET_THREADS, **os.environ},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C on the terminal is for the parent alone, which then stops the server in good order.
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        try:
            self._wait_until_ready(self._process, time.monotonic() + timeout)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the server and waits until it is gone; a second call does nothing."""
        process, self._process = self._process, None
        if process:
            end_process(process)

    def wait(self) -> int:
        """Blocks while the server runs; returns its exit code."""
        if self._process is None:
            raise RuntimeError("The server is not running.")
        return self._process.wait()

    def __enter__(self) -> ComfyServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _command(self) -> list[str]:
        return [
            *(sys.executable, "-u", str(CHILD), str(self.host / "main.py")),
            *("--base-directory", str(self.base), "--database-url", "sqlite:///:memory:"),
            *("--listen", "127.0.0.1", "--port", str(self.port), "--disable-auto-launch"),
            # On a processor the host's default attention takes five times as long at these sizes.
            *("--cpu", "--use-pytorch-cross-attention", "--disable-api-nodes"),
            *self.options,
        ]

    def _wait_until_ready(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        while time.monotonic() < deadline:
            code = process.poll()
            if code is not None:
                raise RuntimeError(f"ComfyUI ended with code {code} while starting:\n{self._log_tail()}")
            try:
                self.client.get("/system_stats")
                return
            except (aiohttp.ClientError, OSError):
                time.sleep(0.1)
        raise RuntimeError(f"ComfyUI did not answer in time:\n{self._log_tail()}")

    def _log_tail(self) -> str:
        return "\n".join(f"    {line}" for line in self.log_text().splitlines()[-15:]) + f"\n{self.log_path}"
