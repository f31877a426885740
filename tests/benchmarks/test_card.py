"""What `--gpu` adds: the list of bars that are missed, what travels to a machine without network, and the whole path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fast_animatediff.benchmarks.compare import card

ROOT = Path(__file__).resolve().parents[2]


def measured(ratio, peak, errors, waits=()):
    """The results of a run in fp16."""
    found = {"ours fp16": {"peak_bytes": peak}, "ade fp16": {"peak_bytes": 100}}
    cell = {"name": "cfg-step", "title": "CFG step", "results": found, "ratios": {"ade fp16": ratio}}
    return {
        "options": {"dtypes": ["fp16"]}, "cells": [cell], "skipped": {}, "refused": {},
        "card": {"parity": {"fp8": errors}, "waits": list(waits)},
    }  # fmt: skip


def test_a_run_that_reaches_every_bar_misses_none():
    assert card.missed(measured(1.31, 60, {"v1": 0.1, "v2": 0.1})) == []
    assert card.missed_table(measured(1.31, 60, {})) == ["no bar missed"]


def test_every_bar_that_is_missed_is_named_with_what_was_measured():
    lines = card.missed(measured(1.29, 61, {"v1": float("nan"), "v2": 0.3}, ["adapter.py:128"]))
    assert len(lines) == 5
    for line, words in zip(
        lines, ("1.29 times as long", "0.61 of theirs", "adapter.py:128", "v1", "v2"), strict=True
    ):
        assert words in line


def run(script, *arguments):
    command = [sys.executable, ROOT / "benchmarks" / script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, env=os.environ)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_sources_are_packed_without_models_tests_and_hidden_folders(tmp_path):
    target = tmp_path / "packed"
    comfyui = Path(os.environ.get("COMFYUI_PATH") or ROOT / ".dev" / "ComfyUI")
    said = run("pack.py", "--no-wheels", "--pack", target, "--comfyui", comfyui)
    assert float(said.split()[0]) <= 55
    for needed in (
        "pack/benchmarks/run.py",
        "pack/motion_modules/adapter.py",
        "host/comfy/ldm/models/autoencoder.py",
    ):
        assert (target / needed).is_file()
    kinds = {path.suffix for path in target.rglob("*") if path.is_file()}
    assert kinds <= {".py", ".json", ".yaml", ".toml", ".sh"}
    assert not (target / "pack" / "tests").exists() and not (target / "pack" / ".dev").exists()


@pytest.mark.slow
@pytest.mark.skipif("FAD_TEST_BENCH" not in os.environ, reason="minutes: set FAD_TEST_BENCH to run it")
def test_the_whole_path_of_a_card_runs_in_tiny_shapes_on_a_cpu(tmp_path):
    small = ["--gpu", "--small", "--device", "cpu", "--threads", "1", "--only", "ours", "--cells", "cfg-step"]
    run("run.py", *small, "--out", tmp_path)
    (results,) = tmp_path.glob("*/results.json")
    held = json.loads(results.read_text())
    names = [entry["name"] for entry in held["contenders"]]
    variants = ("", "again ", "fused ", "compiled ", "channels_last ")
    assert names == [f"ours {variant}fp32" for variant in variants]
    assert held["card"]["parity"]["bf16"].keys() == {"v1", "v2", "v3", "AnimateLCM"}
    assert held["card"]["waits"] == []
    assert "aten::" in (results.parent / "profile.txt").read_text()
    assert "bar" in (results.parent / "table.md").read_text()
