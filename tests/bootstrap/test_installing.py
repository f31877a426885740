"""When a group of packages is installed, and what a second dev.py does meanwhile."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
from loaded import dev, programs


def test_a_group_is_installed_again_only_when_what_is_asked_for_changes(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(dev, "pip", lambda title, arguments: calls.append([str(word) for word in arguments]))
    (in_tmp / ".venv").mkdir()
    requirements = in_tmp / "requirements.txt"
    requirements.write_text("av>=16\n")
    for _ in range(2):
        dev.install("test tools", ["ruff==1"], "3.11", requirements)
    assert calls == [["install", "ruff==1", "-r", str(requirements)]]
    dev.install("test tools", ["ruff==2"], "3.11", requirements)
    dev.install("test tools", ["ruff==2"], "3.12", requirements)
    requirements.write_text("av>=17\n")
    dev.install("test tools", ["ruff==2"], "3.12", requirements)
    assert len(calls) == 4


def test_what_is_in_another_environment_is_installed_again_once_that_is_gone(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(dev, "pip", lambda title, arguments: calls.append(title))
    environment = in_tmp / ".dev" / "fleet-venv"
    for _ in range(2):
        (environment / "bin").mkdir(parents=True)
        for _ in range(2):
            dev.install("Ray", ["ray"], "3.11", into=environment / "bin" / "python")
        shutil.rmtree(environment)
    assert calls == ["Ray", "Ray"]


def test_a_second_dev_py_waits_until_the_first_has_installed(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    def second() -> None:
        with programs.installing():
            seen.append("second")

    with programs.installing():
        other = threading.Thread(target=second)
        other.start()
        other.join(0.3)
        seen.append("first")
    other.join(30)
    assert seen == ["first", "second"]
    assert "Waiting for another dev.py, which installs something" in capsys.readouterr().out


def test_a_group_that_failed_is_tried_again(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(title: str, arguments: list[str]) -> None:
        raise programs.SetupError(title)

    monkeypatch.setattr(dev, "pip", fail)
    (in_tmp / ".venv").mkdir()
    for _ in range(2):
        with pytest.raises(programs.SetupError):
            dev.install("torch", ["torch"], "3.11")
