"""Who takes part, what is refused, and what table and JSON say of it."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fast_animatediff.benchmarks.compare import bench, cells, jobs, report
from fast_animatediff.benchmarks.compare.crew import Crew
from fast_animatediff.tests.benchmarks.stand_in import SMALL, InThisProcess, entry

ROOT = Path(__file__).resolve().parents[2]


class Louder:
    """Ours, with a UNet whose output is 5 % too large."""

    def __init__(self, contender):
        self.contender = contender

    def __getattr__(self, name):
        return getattr(self.contender, name)

    def frames_first(self, x, frames):
        return x * 1.05


@pytest.fixture
def crew(tmp_path):
    made = Crew(tmp_path, room=9, launch=InThisProcess)
    yield made
    InThisProcess.contenders = {}


@pytest.fixture
def results(tmp_path):
    options = argparse.Namespace(
        device="cpu", dtypes=["fp32"], size="test", pixels=64, threads=1, steps=1, rounds=None,
        one_at_a_time=False,
    )  # fmt: skip
    return bench.new_results(options, [])


def test_a_contender_with_a_wrong_output_is_refused_before_timing(
    crew, folder, our_contender, expected, results
):
    wrong = entry("ours", folder, "loud fp32")
    InThisProcess.contenders = {"loud fp32": Louder(our_contender)}
    assert not bench.passes(wrong, crew, SMALL, expected[1], results)
    assert "wrong output" in results["refused"]["loud fp32"] and not results["contenders"]
    assert "REFUSED before timing: loud fp32" in report.report_text(results)


def test_ours_passes_and_is_counted(crew, folder, our_contender, expected, results):
    InThisProcess.contenders = {"ours fp32": our_contender}
    assert bench.passes(entry("ours", folder), crew, SMALL, expected[1], results)
    counts = results["counts"]["ours fp32"]
    assert len(counts["layers"]) == 21 and counts["unet"]["flops"].keys() == {"float32"}
    assert counts["calls"] == "1 of 8 frames" and counts["peak"] > 0


def test_an_absent_checkout_is_named_as_skipped(crew, folder, tmp_path, expected, results):
    absent = entry("ade", folder, peer=tmp_path)
    assert not bench.passes(absent, crew, SMALL, expected[1], results)
    assert "no animatediff/nodes_gen2.py" in results["skipped"]["ade fp32"]
    assert "skipped: ade fp32" in report.report_text(results)


def test_contenders_take_turns_and_every_turn_is_kept(crew, folder, our_contender):
    pair = [entry("ours", folder), entry("ours", folder, "ours again fp32")]
    InThisProcess.contenders = {e.name: our_contender for e in pair}
    said = []
    cell = cells.Cell("step", "a step", "steps", jobs.Job(frames=2, width=64, height=64, cfg=1.0), inner=2)
    found = cells.measure(cell, pair, crew, 2, said.append)
    for result in found.values():
        assert result["count"] == 4 and result["calls"] == "4 of 2 frames"
        assert result["min"] <= result["median"] and sorted(result["layers"]) == [0, 1, 2, 3]
    assert len(said) == 2 and "round 2 of 2" in said[1]
    assert crew.start(pair[0]).asked.count("steps") == 2


def test_a_contender_that_fails_leaves_the_others_running(crew, folder, our_contender):
    class Broken(Louder):
        def sample(self, job, latent=None):
            raise ArithmeticError("no such number")

    pair = [entry("ours", folder), entry("ours", folder, "broken fp32")]
    InThisProcess.contenders = {"ours fp32": our_contender, "broken fp32": Broken(our_contender)}
    cell = cells.Cell("turbo", "a clip", "run", jobs.Job(frames=2, width=64, height=64, steps=1))
    found = cells.measure(cell, pair, crew, 2, lambda line: None)
    assert crew.start(pair[0]).asked.count("run") == 3  # one to warm up
    assert found["broken fp32"]["failed"] == "no such number" and found["ours fp32"]["count"] == 2


def test_a_video_goes_through_the_vae_both_ways_and_makes_the_calls_that_were_asked_for(
    crew, folder, our_contender, tmp_path
):
    ours = entry("ours", folder)
    InThisProcess.contenders = {"ours fp32": our_contender}
    job = jobs.Job(frames=2, width=64, height=64, steps=4, strength=0.5)
    assert crew.ask(ours, "run", job=job, video=True)["calls"] == "2 of 4 frames"
    crew.ask(
        ours, "run", job=jobs.Job(frames=2, width=64, height=64, steps=1), path=str(tmp_path / "clip.mp4")
    )
    assert next(tmp_path.glob("*.mp4")).stat().st_size > 500


def finished(results, seconds):
    for name, title in (("ours fp32", "Fast"), ("ours again fp32", "again"), ("ade fp32", "Peer")):
        entry_of = {"name": name, "title": title, "contender": name.split()[0], "version": "1"}
        results["contenders"].append(entry_of)
    found = {
        name: {"seconds": [s], "calls": "1 of 32 frames"} | cells.summary([s]) for name, s in seconds.items()
    }
    ratios = report.compare(found, ["fp32"])
    cell = {"name": "cfg-step", "title": "CFG step", "results": found, "ratios": ratios, "floor": {}}
    results["cells"].append(cell)
    return results


def test_a_ratio_within_the_noise_is_called_noise(results):
    finished(results, {"ours fp32": 1.0, "ours again fp32": 1.03, "ade fp32": 1.05})
    assert "1.05x (noise)" in report.report_text(results)


def test_a_ratio_above_the_noise_is_stated(results):
    finished(results, {"ours fp32": 1.0, "ours again fp32": 1.01, "ade fp32": 1.5})
    text = report.report_text(results)
    assert "1.50x |" in text and "STOPPED" in text  # nobody said that the run ended


def test_times_keep_three_digits_and_their_spread_the_same():
    assert report.seconds_text(0.0613, 0.0004) == "61.3 ± 0.4 ms"
    assert report.seconds_text(1.234, 0.05) == "1.23 ± 0.05 s" and report.seconds_text(178.2) == "178 s"


def test_json_and_plot_hold_what_was_measured(results, tmp_path):
    finished(results, {"ours fp32": 1.0, "ours again fp32": 1.01, "ade fp32": 1.5})
    bench.keep(results, tmp_path)
    held = json.loads((tmp_path / "results.json").read_text())
    assert held["cells"][0]["results"]["ade fp32"]["seconds"] == [1.5]
    assert held["cells"][0]["ratios"]["ade fp32"] == 1.5 and held["finished"] is False
    assert "1.50 s  Peer" in (tmp_path / "plot.svg").read_text()
    assert "| CFG step |" in (tmp_path / "table.md").read_text()


def test_a_wrong_name_is_answered_with_the_right_ones(tmp_path):
    with pytest.raises(SystemExit, match="cfg-stop: there are cfg-step"):
        bench.choose(cells.make_cells(64, 1, tmp_path), "step,cfg-stop")
    with pytest.raises(SystemExit, match="fp4: there are fp32, fp16, bf16, fp8, auto"):
        bench.fill_defaults(argparse.Namespace(device="cpu", dtype="fp32,fp4"))


def run_benchmark(*arguments):
    command = [sys.executable, "-I", str(ROOT / "benchmarks" / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, env=os.environ)


@pytest.mark.slow
@pytest.mark.skipif("FAD_TEST_BENCH" not in os.environ, reason="half a minute: set FAD_TEST_BENCH to run it")
def test_the_whole_run_from_the_command_line(tmp_path):
    small = [
        "--size",
        "test",
        "--pixels",
        "64",
        "--rounds",
        "1",
        "--steps",
        "1",
        "--threads",
        "1",
        "--device",
        "cpu",
    ]
    done = run_benchmark(*small, "--cells", "step,decode", "--only", "ours,ade", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr + done.stdout
    held = json.loads(next(tmp_path.glob("*/results.json")).read_text())
    assert held["finished"] and [cell["name"] for cell in held["cells"]] == ["step", "decode"]
    assert held["skipped"] == {"ade fp32": "no --ade PATH was given, a checkout of its repository"}
    assert held["cells"][0]["results"]["ours fp32"]["median"] > 0 and "ours again fp32" in held["checks"]
    assert torch.__version__ == held["machine"]["versions"]["torch"]
