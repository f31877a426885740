from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fast_animatediff.benchmarks.cluster.sleeper import (
    TURBO,
    VIDEO,
    command,
    events,
    line,
    report,
    run,
    write_manifest,
)
from fast_animatediff.dev_server.clip import write_clip
from fast_animatediff.dev_server.server import ComfyServer

pytestmark = pytest.mark.server
Render = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def arguments(sleeper: ComfyServer, brief: Path, tmp_path: Path) -> list[str | Path]:
    return ["--out", tmp_path / "out", "--comfyui", sleeper.base_url, "--settings", brief, "--json"]


@pytest.fixture
def render(arguments: list[str | Path], tmp_path: Path) -> Render:
    """Renders the lines into `out`."""

    def start(*lines: dict[str, Any], more: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        return run("render", write_manifest(tmp_path / "manifest.jsonl", lines), *arguments, *more)

    return start


def made(server: ComfyServer) -> set[str]:
    """The videos that the ComfyUI has written."""
    return {file.name for file in (server.base / "output").rglob("*.mp4")}


def test_a_second_run_skips_what_is_done_and_makes_what_has_changed_anew(
    render: Render, sleeper: ComfyServer, tmp_path: Path
) -> None:
    first = render(line("one"), line(seed=2))
    assert first.returncode == 0, first.stdout + first.stderr
    assert report(first)["made"] == 2 and report(first)["skipped"] == 0
    names = sorted(file.name for file in (tmp_path / "out").glob("*.mp4"))
    assert names[1] == "one.mp4" and names[0].startswith("a-red-circle-")
    before, unchanged = made(sleeper), (tmp_path / "out" / names[0]).stat()
    same = render(line("one"), line(seed=2))
    assert (report(same)["skipped"], report(same)["done"]) == (2, 0) and made(sleeper) == before
    old = (tmp_path / "out" / "one.mp4").read_bytes()
    changed = render(line("one", seed=3), line(seed=2))
    assert (report(changed)["skipped"], report(changed)["done"]) == (1, 1)
    assert (tmp_path / "out" / "one.mp4").read_bytes() != old
    assert (tmp_path / "out" / names[0]).stat() == unchanged
    (tmp_path / "out" / "one.mp4").unlink()
    assert report(render(line("one", seed=3), line(seed=2)))["done"] == 1
    assert (tmp_path / "out" / "one.mp4").is_file()


def test_a_failed_clip_is_tried_up_to_the_bound_and_named_with_its_reason(
    render: Render, tmp_path: Path
) -> None:
    lines = (line("good"), line("bad", seed=666))
    first = render(*lines, more=("--attempts", "2"))
    assert first.returncode == 1
    [failure] = report(first)["failures"]
    assert failure["name"] == "bad" and failure["attempts"] == 2
    assert "There is no picture for seed 666" in failure["reason"]
    again = render(*lines, more=("--attempts", "3"))
    assert report(again)["failures"][0]["attempts"] == 3 and report(again)["skipped"] == 1
    spent = render(*lines, more=("--attempts", "3"))
    assert spent.returncode == 1 and report(spent)["failures"][0]["attempts"] == 3
    assert (tmp_path / "out" / "good.mp4").is_file() and not (tmp_path / "out" / "bad.mp4").exists()


def test_nothing_is_rendered_from_a_manifest_with_a_bad_line(render: Render, tmp_path: Path) -> None:
    done = render(line("good"), {"endpoint": TURBO, "input": {"num_frames": 99}}, line("good"))
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    problems = [(event["line"], event["reason"]) for event in events(done) if event["event"] == "problem"]
    assert problems == [
        (2, "prompt: Field required; num_frames: Input should be less than or equal to 32"),
        (3, "name: 'good' is taken by line 1"),
    ]


def test_a_driver_that_was_killed_is_continued_and_every_clip_is_made_once(
    arguments: list[str | Path], sleeper: ComfyServer, tmp_path: Path
) -> None:
    manifest = write_manifest(
        tmp_path / "manifest.jsonl", [line(f"clip {n}", seed=100 + n) for n in range(8)]
    )
    before, out = made(sleeper), tmp_path / "out"
    for count in (1, 3, 5):
        driver = subprocess.Popen(command("render", manifest, *arguments), stdout=subprocess.PIPE)
        wait_until(lambda count=count: len(list(out.glob("*.mp4"))) >= count)
        os.kill(driver.pid, signal.SIGKILL)
        driver.communicate()
    kept = out / ".requests" / "requests-files" / "results" / "taken"
    kept.mkdir(parents=True)  # as a driver leaves it that is killed after it has noted a clip
    (kept / "clip.mp4").write_bytes(b"frames")
    done = run("render", manifest, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert report(done)["made"] == 8
    assert len(made(sleeper) - before) == 8
    with sqlite3.connect(out / "render.sqlite3") as ledger:
        assert ledger.execute("SELECT DISTINCT state, attempts FROM clips").fetchall() == [("done", 1)]
    assert not list(out.glob(".*.part")) and not list(out.glob(".requests/**/*.mp4"))


def test_a_second_driver_on_the_same_folder_says_so_and_ends(
    arguments: list[str | Path], render: Render, tmp_path: Path
) -> None:
    manifest = write_manifest(tmp_path / "long.jsonl", [line(seed=200 + n) for n in range(8)])
    driver = subprocess.Popen(command("render", manifest, *arguments), stdout=subprocess.PIPE)
    try:
        wait_until(lambda: bool(list((tmp_path / "out").glob("*.mp4"))))
        second = render(line())
        assert second.returncode == 2
        assert events(second) == [{"event": "refused", "reason": "Another render is working on it."}]
        assert driver.poll() is None
        driver.send_signal(signal.SIGINT)
        assert driver.wait(30) == 130
    finally:
        driver.kill()
        driver.communicate()


def test_a_line_that_was_taken_out_is_not_rendered_after_a_kill(
    arguments: list[str | Path], render: Render, sleeper: ComfyServer, tmp_path: Path
) -> None:
    manifest = write_manifest(tmp_path / "long.jsonl", [line(f"gone {n}", seed=300 + n) for n in range(8)])
    driver = subprocess.Popen(command("render", manifest, *arguments), stdout=subprocess.PIPE)
    wait_until(lambda: bool(list((tmp_path / "out").glob("*.mp4"))))
    driver.kill()
    driver.communicate()
    before = made(sleeper)
    assert report(render(line("kept", seed=400)))["done"] == 1
    assert len(made(sleeper) - before) <= 2  # with the one that was running


@pytest.mark.slow
def test_a_folder_of_videos_is_rendered_under_their_names(
    sleeper: ComfyServer, brief: Path, tmp_path: Path
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    write_clip(videos / "Holiday 1.mp4")
    shutil.copy(videos / "Holiday 1.mp4", videos / "two.mp4")
    (videos / "notes.txt").write_text("no video")
    what = ["--videos", videos, "--endpoint", VIDEO, "--prompt", "a green square", "--input", '{"fps": 4}']
    where = ["--out", tmp_path / "out", "--comfyui", sleeper.base_url, "--settings", brief, "--json"]
    done = run("render", *what, *where)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(file.name for file in (tmp_path / "out").glob("*.mp4")) == ["Holiday 1.mp4", "two.mp4"]
    assert (videos / "two.mp4").stat().st_nlink == 1  # nothing of it is kept
    write_clip(videos / "two.mp4", seed=1)
    assert report(run("render", *what, *where))["done"] == 1


@pytest.mark.parametrize("name", ["made.mp4", "render.mp4", "made[1].mp4"])
def test_one_request_becomes_one_file(sleeper: ComfyServer, brief: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "one.json").write_text(json.dumps(line(), indent=2))
    where = ["--comfyui", sleeper.base_url, "--settings", brief]
    done = run("render", "--one", tmp_path / "one.json", "--out", tmp_path / name, *where)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / name).read_bytes()[4:8] == b"ftyp"
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([name, "one.json"])


def wait_until(holds: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
