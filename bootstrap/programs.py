"""Runs other programs for dev.py: with signs of life, a log, a plain reason when they fail, and an end on Ctrl-C."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
DEV = ROOT / ".dev"
LOGS = DEV / "logs"
WINDOWS = os.name == "nt"
LINUX = sys.platform == "linux"
PYTHON = VENV / ("Scripts/python.exe" if WINDOWS else "bin/python")
ISOLATED = [PYTHON, "-I", "-u", "-m"]  # for modules: -I keeps the working folder and PYTHONPATH out
DISK_GB = 8 if LINUX else 4  # torch for Linux brings CUDA, for the others it does not


@contextmanager
def installing() -> Iterator[None]:
    """Waits for another dev.py of this checkout that installs something: two at once would spoil each other's work."""
    DEV.mkdir(exist_ok=True)
    with (DEV / "installing").open("ab") as lock:
        if not take(lock):
            print("  Waiting for another dev.py, which installs something", flush=True)
            while not take(lock):
                time.sleep(0.5)
        yield


def take(lock: BinaryIO) -> bool:
    """Whether this process has the lock now. It is given back when the file is closed, or the process ends."""
    try:
        if sys.platform == "win32":
            import msvcrt

            lock.seek(0)
            msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a disk without locks, as some network drives: as ever
        pass
    return True


class SetupError(RuntimeError):
    """What went wrong and what to do next, written for the console."""


def run(command: list[str | Path], env: dict[str, str], folder: Path = ROOT) -> int:
    """Runs a program in the foreground, in a folder; returns its exit code."""
    process = subprocess.Popen([str(part) for part in command], cwd=folder, env=env)
    try:
        return process.wait()
    except KeyboardInterrupt as interrupt:
        stop(process, interrupt)
        raise


def stop(process: subprocess.Popen[bytes], interrupt: KeyboardInterrupt) -> None:
    """Ends a child. After Ctrl-C on a terminal it got the interrupt too, and a second would cut its cleaning short."""
    child_knows = WINDOWS or (sys.stdin.isatty() and not interrupt.args)
    if process.poll() is None and not child_knows:
        process.send_signal(signal.SIGINT)
    for insist in (process.terminate, process.kill):
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            insist()
    process.wait()


def run_quietly(title: str, command: list[str | Path], env: dict[str, str] | None = None) -> None:
    """Runs a talkative program into .dev/logs, with signs of life on the console; raises SetupError if it fails."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / (re.sub(r"\W+", "-", title).strip("-") + ".log")
    words, start = [str(part) for part in command], time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(words, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            follow(process, title, log)
        except KeyboardInterrupt as interrupt:
            stop(process, interrupt)
            raise
    if process.returncode:
        lines = spoken_lines(log)
        reasons = [line[:300] for line in lines if "WARNING: Retrying" not in line]
        tail = "\n".join(f"    {line}" for line in reasons[-8:])
        raise SetupError(
            f"{tail}\n{title} failed. {diagnose(lines)}\nThe whole output: {log.relative_to(ROOT)}"
        )
    print(f"  {title}: {time.monotonic() - start:.0f} s")


def follow(process: subprocess.Popen[bytes], title: str, log: Path) -> None:
    """Shows how a quiet child gets on: one live line on a terminal, elsewhere a line every ten seconds."""
    start, shown, live = time.monotonic(), 0, sys.stdout.isatty()
    width = shutil.get_terminal_size().columns - 1 if live else 120
    while process.poll() is None:
        seconds = int(time.monotonic() - start)
        if live or seconds >= shown + 10:
            shown = seconds
            text = f"  {title}: {seconds} s  {(spoken_lines(log) or [''])[-1].strip()}"[:width]
            print("\r" + text.ljust(width) if live else text, end="" if live else "\n", flush=True)
        try:
            process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            continue
    if live:
        print("\r" + " " * width, end="\r", flush=True)


def spoken_lines(log: Path) -> list[str]:
    """The lines of a log worth showing: no blank ones, no remarks about folders in the user's own pip settings."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.rstrip() for line in lines if line.strip() and "is ignored: it is" not in line]


def diagnose(lines: list[str]) -> str:
    """What a failed installation's output most likely means, and what to do."""
    no_disk = r"No space left|Errno 28|not enough space"
    no_network = (
        r"NewConnectionError|Failed to establish|onnection refused|name resolution|getaddrinfo|ECONNREFUSED|ENOTFOUND|"
        r"nreachable|Could not resolve|ConnectTimeout|Read timed out|ProxyError|SSLError|Failed to fetch"
    )
    no_build = r"No matching distribution|requires a different [Pp]ython"
    said = "\n".join(lines)
    if re.search(no_disk, said):
        room = f"about {DISK_GB} GB for {ROOT}, and for a while 4 GB for pip's cache and temporary files (TMPDIR)"
        return f"The disk is full. Needed: {room}."
    if re.search(no_network, said):
        return "The package index could not be reached: check the network, then run the same command again."
    if "DO NOT MATCH THE HASHES" in said:
        return "What arrived is not the file that was expected (sha256). Nothing of it was used."
    if re.search(no_build, said):
        advice = "Delete .venv and run dev.py with a 64-bit Python 3.11, 3.12 or 3.13"
        return f"There is no build of it for this system and the Python in .venv. {advice}."
    return "Its last lines are above."


def probe(code: str) -> str | None:
    """What some Python code prints in .venv, or None where it fails or there is no .venv."""
    try:
        done = subprocess.run([str(PYTHON), "-I", "-c", code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def pip(title: str, arguments: list[str | Path], python: list[str | Path] = ISOLATED) -> None:
    """One pip call, of .venv's pip unless told otherwise, whatever the user's pip settings say about the target."""
    settings = {
        "PIP_USER": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_PROGRESS_BAR": "off",
    }
    run_quietly(title, [*python, "pip", *arguments], {**os.environ, **settings})
