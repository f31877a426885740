"""What `dev.py` tells with nothing but Python on the machine: the help of its commands, and what `convert` can't read."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BARE = getattr(sys, "_base_executable", sys.executable)  # which has none of the packages of .venv
TOLD = {
    "demo": "two mp4 files",
    "ui": "--port PORT",
    "serve": "--workers URL",
    "render": "--videos FOLDER",
    "fleet": "{up,status,down}",
    "fleet up": "--warm ENDPOINT",
    "test": "pytest",
    "types": "mypy",
    "convert": "converted.json",
    "models": "--workflow TITLE",
    "bench": "--ade PATH",
    "bench waiting": "--requests",
}


def ask(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [BARE, str(checkout / "dev.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One in which nothing has been set up."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("dev.py", "__init__.py", "bootstrap", "replacements", "fleet", "benchmarks"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    return folder


@pytest.mark.parametrize("command", TOLD)
def test_every_command_tells_its_help_at_once_without_installing_anything(
    checkout: Path, command: str
) -> None:
    before = sorted(path.name for path in checkout.iterdir())
    done = ask(checkout, *command.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ") and TOLD[command] in done.stdout
    assert sorted(path.name for path in checkout.iterdir()) == before


def test_no_command_is_left_out(checkout: Path) -> None:
    commands = re.findall(r"^  ([a-z]+) ", ask(checkout, "--help").stdout, re.MULTILINE)
    assert commands and set(commands) == set(TOLD) - {"fleet up", "bench waiting"}


def test_a_misspelt_command_is_told_the_nearest(checkout: Path) -> None:
    assert ask(checkout, "dmeo").stderr == "dmeo is not a command. Did you mean demo?\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'\xef\xbb\xbf{"nodes": [], "links": []}', "0 nodes replaced"),  # as Windows' editor saves it
        (b"\x89PNG\r\n\x1a\n\0\0", "It is not JSON"),
        (b"[" * 100_000, "It is not JSON"),
        (b"[]", "neither a workflow"),
        (b"null", "neither a workflow"),
    ],
)
def test_convert_says_in_a_line_what_is_wrong_with_a_file(
    checkout: Path, tmp_path: Path, content: bytes, told: str
) -> None:
    file = tmp_path / "workflow.json"
    file.write_bytes(content)
    done = ask(checkout, "convert", str(file))
    said = (done.stdout + done.stderr).splitlines()
    assert len(said) == 1 and told in said[0]
