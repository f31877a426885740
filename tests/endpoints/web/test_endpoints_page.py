"""The endpoints' page as a person uses it: real clicks in a real browser, on a real server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fast_animatediff.dev_server.set_up import clips
from fast_animatediff.tests.endpoints.served import Served

pytestmark = [pytest.mark.server, pytest.mark.browser]
SCRIPT = Path(__file__).with_name("page.js")
TIMEOUT = 400
SIZES = ["Square HD", "Square", "Portrait 4:3", "Portrait 16:9", "Landscape 4:3", "Landscape 16:9", "Custom"]
Visit = Callable[..., dict]


@pytest.fixture
def visit(tools: None, served: Served, screenshots: Path) -> Visit:
    """`visit("run")` does what the script has under that name, and gives what it saw."""

    def visit(task: str, *arguments: str | Path) -> dict:
        folder = screenshots / f"endpoints {task}"
        folder.mkdir(exist_ok=True)
        command = ["node", SCRIPT, task, served.address, folder, *arguments]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=TIMEOUT)
        assert done.returncode == 0, f"{done.stderr}\nScreenshots: {folder}"
        told = json.loads(done.stdout)
        assert told["complaints"] == []
        return told

    return visit


def test_a_request_is_sent_followed_and_ends_in_its_video(visit: Visit, served: Served) -> None:
    told = visit("run")
    assert (told["video"]["width"], told["video"]["height"]) == (64, 64)
    assert told["video"]["duration"] == pytest.approx(0.5, abs=0.05)
    assert told["video"]["src"].startswith(f"{served.address}/fal/files/")
    assert any(seen.endswith("step 8 of 8") for seen in told["seen"])
    assert told["seen"][-1].startswith("Done in")
    assert "Sampling: step 8 of 8" in told["lines"] and "Encoding the video" in told["lines"]
    assert told["seed"].isdecimal()


def test_the_command_for_curl_runs_as_shown(visit: Visit) -> None:
    told = visit("command")
    done = subprocess.run(["sh", "-c", told["curl"]], capture_output=True, text=True, timeout=TIMEOUT)
    assert json.loads(done.stdout)["seed"] == int(told["seed"]), done.stderr


def test_a_wrong_value_is_explained_at_its_field_and_the_field_has_the_focus(visit: Visit) -> None:
    told = visit("mistakes")
    first = told["first"]
    assert len(first["messages"]) == 1 and "valid integer" in first["messages"][0]
    assert (first["focused"], first["invalid"]) == ("field-seed", "true")
    assert len(told["messages"]) == 1 and "video_url must be" in told["messages"][0]
    assert told["focused"] == "field-video_url" and not told["running"]


def test_a_chosen_file_is_uploaded_and_its_name_is_only_text(visit: Visit, served: Served) -> None:
    clip = next(path for path in clips(served.base) if path.suffix == ".mp4")
    told = visit("upload", clip)
    assert told["video"]["duration"] > 1 and "<img" in told["note"] and not told["hacked"]
    assert told["next"] == told["video"]["src"]


def test_after_a_reload_the_running_request_and_its_values_are_there_and_cancelling_is_no_alert(
    visit: Visit,
) -> None:
    told = visit("reload")
    assert told["after"] == told["before"]
    assert (told["alerts"], told["focused"], told["again"]) == ([], "run", True)


def test_the_focus_goes_from_run_to_cancel_and_to_the_result(visit: Visit) -> None:
    told = visit("keyboard")
    assert (told["running"], told["ended"], told["typing"]) == ("cancel", True, "field-prompt")


@pytest.mark.slow
def test_a_chosen_file_is_shown_named_in_problems_and_found_again_and_a_new_choice_clears_the_problem(
    visit: Visit, served: Served
) -> None:
    clip = next(path for path in clips(served.base) if path.suffix == ".mp4")
    told = visit("files", clip)
    assert told["problem"].startswith("broken.mp4 could not be opened")
    assert told["left"] == {"wrong": 0, "alerts": []}
    assert "clip.mp4" in told["note"]


def test_every_control_has_a_name_and_nothing_is_wider_than_a_telephone(visit: Visit) -> None:
    found = visit("forms")["found"]
    assert sum(form["sizes"] == SIZES for form in found) == 4  # text to video, and turbo, on both screens
    for form in found:
        assert form["controls"] > 8 and form["nameless"] == [] and form["overflow"] <= 0
