"""One ComfyUI on this machine: started in folders of its own, warmed, watched, and started again when it died or hangs.

Standard library only: Ray hands this module to the nodes by value, so that a node needs ComfyUI and Ray, but no checkout.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OWN_FOLDERS = ("input", "output", "temp", "user")
SHARED_FOLDERS = ("models", "custom_nodes")
PREFIX = "fast-animatediff-worker-"
# Waiting threads that spin make a step many times as slow as soon as anything else wants a core.
QUIET_THREADS = {"OMP_WAIT_POLICY": "PASSIVE"}
START_SECONDS = 600.0  # until a ComfyUI that has just been started must answer
WARM_SECONDS = 1800.0  # for the first prompts, which load the models
WATCH_SECONDS = 1.0
PAUSE_SECONDS = 10.0  # before another attempt, after one that failed
KEEP_SECONDS = 3600.0  # for files in the output folder: whoever asked for them has fetched them
LARGEST_MB = 4096  # of a video that is brought to it
STOP_SECONDS = 8.0  # the child itself gives up after 5
# Two frames of 16x16 pixels, for prompts that warm a workflow which takes a video.
WARM_VIDEO = "warm-up.gif"
WARM_GIF = """R0lGODlhEAAQAIEAAAAAAP8AAAD/AAAA/yH5BABkAAAALAAAAAAQABAAQAgdAAEIHEiwoMGDCBMqXMiwocOHECNKnEixosWBAQEAIfkE
    AGQAAAAsAAAAABAAEABACDAAAQgcSLBgwQAIEyI0KFChQoYQI0o06DAhxIoLJ2rcyPEgxosfGWIMALJix5MFAwIAOw=="""
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Comfy:
    """How a ComfyUI is run.

    folder: ComfyUI's own, on the machine of the worker. python: the one that runs it. shared: the folder with the
    `models` and `custom_nodes` that it uses. child: the text of the program that runs its main.py and ends with its
    parent. options: more of main.py's arguments. warm: API prompts to run before it counts as ready. hang_seconds: for
    how long it may not answer before it is ended.
    """

    folder: str
    python: str
    shared: str
    child: str
    options: tuple[str, ...] = ()
    warm: tuple[dict[str, Any], ...] = ()
    hang_seconds: float = 60.0


class Failed(RuntimeError):
    """Why the ComfyUI can't be used now."""


class Worker:
    """Keeps one ComfyUI running until `end`. host: the address of this machine at which it listens."""

    def __init__(self, comfy: Comfy, host: str) -> None:
        self._comfy, self._host, self._port = comfy, host, free_port(host)
        self._state, self._reason = "starting", ""
        self._starts, self._began, self._draining = 0, time.monotonic(), False
        self._gpu = ""
        self._lane: dict[str, Any] = {}
        self._told = time.monotonic()
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = threading.Event()
        remove_leftovers()
        self._base = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self._thread = threading.Thread(target=self._keep_running, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def report(self) -> dict[str, Any]:
        """What there is to know: state is starting, warming, ready or failed (with a reason), or draining."""
        return {
            "address": self.address,
            "state": "draining" if self._draining and self._state == "ready" else self._state,
            "draining": self._draining,
            "reason": self._reason,
            "node": socket.gethostname(),
            "gpu": self._gpu,
            "starts": self._starts,
            "seconds": time.monotonic() - self._began,
            "lane": self._lane,
            "told_seconds": time.monotonic() - self._told,
            "pids": [os.getpid(), self._process.pid if self._process else None],
        }

    def tell(self, lane: dict[str, Any]) -> None:
        """What the front knows of its requests here, for those who ask this worker: state, request, step, done, failed."""
        self._lane, self._told = lane, time.monotonic()

    def drain(self) -> None:
        """Asks whoever gives it requests to give it no more, and then to end it."""
        self._draining = True

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        shutil.rmtree(self._base, ignore_errors=True)

    # ---- in the thread

    def _keep_running(self) -> None:
        while not self._ended.is_set():
            self._state, was_ready = "starting", False
            try:
                self._start()
                self._state = "warming"
                self._warm()
                self._state, self._reason, was_ready = "ready", "", True
                self._watch()
            # The last three: it is no ComfyUI.
            except (Failed, OSError, ValueError, LookupError, TypeError) as error:
                self._state, self._reason = "failed", str(error)
            finally:
                self._stop()
            if not was_ready:
                self._ended.wait(PAUSE_SECONDS)

    def _start(self) -> None:
        self._starts += 1
        self._make_folders()
        main = Path(self._comfy.folder) / "main.py"
        if not main.is_file():
            raise Failed(f"There is no ComfyUI in {self._comfy.folder} of {socket.gethostname()}.")
        command = [
            *(self._comfy.python, "-u", "-c", self._comfy.child, str(main)),
            *("--base-directory", str(self._base), "--database-url", "sqlite:///:memory:"),
            *("--listen", self._host, "--port", str(self._port), "--disable-auto-launch"),
            *("--max-upload-size", str(LARGEST_MB)),
            *self._comfy.options,
        ]
        # Its endpoints would take this one's settings for their own.
        own = {name: value for name, value in os.environ.items() if not name.startswith("FAD_ENDPOINTS_")}
        own.pop("PYTHONPATH", None)
        env = QUIET_THREADS | own
        with (self._base / "comfyui.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=self._comfy.folder, env=env, stdin=subprocess.PIPE, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            self._check()
            if time.monotonic() > deadline:
                raise Failed(f"ComfyUI did not answer within {START_SECONDS:g} seconds:\n{self._log_tail()}")
            self._ended.wait(0.2)

    def _make_folders(self) -> None:
        for name in OWN_FOLDERS:
            shutil.rmtree(self._base / name, ignore_errors=True)
            (self._base / name).mkdir()
        (self._base / "input" / WARM_VIDEO).write_bytes(base64.b64decode(WARM_GIF))
        for name in SHARED_FOLDERS:
            link, target = self._base / name, Path(self._comfy.shared) / name
            if not target.is_dir():
                raise Failed(f"There is no folder {target} on {socket.gethostname()}.")
            if not os.path.lexists(link):
                make_link(link, target)

    def _warm(self) -> None:
        """Loads the models. Errors: Failed, with what ComfyUI says."""
        stats = self._ask("/system_stats")
        self._gpu = ", ".join(device["name"] for device in stats["devices"])
        for prompt in self._comfy.warm:
            prompt_id = str(uuid.uuid4())
            try:
                self._ask("/prompt", {"prompt": prompt, "prompt_id": prompt_id})
            except urllib.error.HTTPError as error:
                raise Failed(f"ComfyUI can't run the workflow: {read_refusal(error)}") from error
            deadline = time.monotonic() + WARM_SECONDS
            while (job := self._ask(f"/api/jobs/{prompt_id}"))["status"] in ("pending", "in_progress"):
                self._check()
                if time.monotonic() > deadline:
                    raise Failed(f"The first prompt did not end within {WARM_SECONDS:g} seconds.")
                self._ended.wait(0.2)
            if job["status"] != "completed":
                said = (job.get("execution_error") or {}).get("exception_message", job["status"])
                raise Failed(f"The first prompt failed: {said.strip()}")

    def _watch(self) -> None:
        """Returns when it has to end; raises Failed when ComfyUI died or hangs."""
        heard = tidied = time.monotonic()
        while not self._ended.wait(WATCH_SECONDS):
            self._check()
            if self._answers():
                heard = time.monotonic()
            if time.monotonic() - heard > self._comfy.hang_seconds and self._process:
                self._process.kill()
                raise Failed(f"ComfyUI did not answer for {self._comfy.hang_seconds:g} seconds.")
            if time.monotonic() - tidied > KEEP_SECONDS / 10:
                tidied = time.monotonic()
                delete_old(self._base / "output", KEEP_SECONDS)

    def _check(self) -> None:
        code = self._process.poll() if self._process else None
        if code is not None:
            raise Failed(f"ComfyUI ended with code {code}:\n{self._log_tail()}")
        if self._ended.is_set():
            raise Failed("The worker was ended.")

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process:
            end_process(process)

    def _answers(self) -> bool:
        try:
            self._ask("/system_stats")
            return True
        except (OSError, ValueError):
            return False

    def _ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data else {}
        request = urllib.request.Request(self.address + path, data, headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=min(10.0, self._comfy.hang_seconds)) as answer:
                return json.loads(answer.read())
        except http.client.HTTPException as error:  # it ended in the middle of its answer
            raise ConnectionError(f"{path}: {error!r}") from error

    def _log_tail(self) -> str:
        return "\n".join(read_log(self._base / "comfyui.log").splitlines()[-8:])


def read_refusal(error: urllib.error.HTTPError) -> str:
    """The nodes' problems in ComfyUI's answer to a prompt that it does not run."""
    try:
        answer = json.loads(error.read())
        problems = [
            f"{node['class_type']}: {problem['details'] or problem['message']}"
            for node in answer["node_errors"].values()
            for problem in node["errors"]
        ]
        return "; ".join(problems) or str(answer["error"]["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return str(error)


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Ends a ComfyUI that was started by `Comfy.child`, and waits until it is gone."""
    try:
        process.communicate(timeout=STOP_SECONDS)  # closes its standard input, which asks it to end
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()  # does nothing to a process that has ended
        process.wait()


def read_log(file: Path) -> str:
    """Without colours."""
    return COLOUR.sub("", file.read_text(encoding="utf-8", errors="replace"))


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def make_link(link: Path, target: Path) -> None:
    if os.name == "nt":  # where a symlink needs special rights, and a junction none
        import _winapi

        _winapi.CreateJunction(str(target), str(link))  # type: ignore[attr-defined,unused-ignore]
    else:
        link.symlink_to(target, target_is_directory=True)


def delete_old(folder: Path, seconds: float) -> None:
    for file in folder.rglob("*"):
        with suppress(OSError):
            if file.is_file() and file.stat().st_mtime < time.time() - seconds:
                file.unlink()


def remove_leftovers() -> None:
    """Deletes the folders of workers that were killed: their names hold the ids of processes that are gone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        pid = folder.name[len(PREFIX) :].partition("-")[0]
        if pid.isdecimal() and not is_alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def is_alive(pid: int) -> bool:
    if os.name == "nt":  # where a signal 0 would end it
        listed = subprocess.run(["tasklist", "/FI", f"PID eq {pid}"], capture_output=True, text=True)
        return str(pid) in listed.stdout
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
