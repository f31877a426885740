"""The endpoints' page as a person uses it: real clicks in a real browser, on a real server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from fast_animatediff.dev_server.set_up import clips
from fast_animatediff.tests.endpoints.served import Served

pytestmark = [pytest.mark.server, pytest.mark.browser]
SCRIPT = Path(__file__).with_name("page.js")
TIMEOUT = 400
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
    assert told["video"]["src"].startswith(f"{served.address}/view?")
    assert "Samplingstep 8 of 8" in told["seen"] and told["seen"][-1].startswith("Done in")
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
    assert parse_qs(urlsplit(told["next"]).query)["type"] == ["output"]


def test_a_request_is_found_again_after_a_reload_and_can_be_cancelled(visit: Visit) -> None:
    told = visit("reload")
    assert "cancelled" in told["problem"] and told["again"]


def test_every_control_has_a_name_and_nothing_is_wider_than_a_telephone(visit: Visit) -> None:
    for form in visit("forms")["found"]:
        assert form["controls"] > 8 and form["nameless"] == [] and form["overflow"] <= 0
