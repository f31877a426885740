"""Where requests go, and how many may wait: queue and lanes, with ComfyUIs that answer as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fast_animatediff.endpoints.comfyui.client import ComfyUI, ComfyUIGone, NoSpace, Prompt, PromptRefused
from fast_animatediff.endpoints.comfyui.filling import Filled
from fast_animatediff.endpoints.protocol.answers import Log
from fast_animatediff.endpoints.protocol.failure import CANCELLED, MACHINE_LOST, NO_SPACE, Refused
from fast_animatediff.endpoints.requests import lane
from fast_animatediff.endpoints.requests import queue as queue_module
from fast_animatediff.endpoints.requests.jobs import Job, Jobs, attempt_id
from fast_animatediff.endpoints.requests.lane import MOST_ATTEMPTS
from fast_animatediff.endpoints.requests.lanes import Lanes
from fast_animatediff.endpoints.requests.queue import VIDEOS_AHEAD, Queue
from fast_animatediff.endpoints.requests.results import Results
from fast_animatediff.tests.endpoints.requests.test_store import new
from fast_animatediff.tests.endpoints.served import APP

SECONDS = 10.0
TO_VIDEO = f"{APP}/video-to-video"


class Answering(ComfyUI):
    """Knows a prompt the first `answers` times it is asked, then its HTTP fails. Refuses every new prompt."""

    def __init__(self, url: str, answers: int, comes_back: bool = False) -> None:
        super().__init__(url)
        self.answers, self.comes_back = answers, comes_back
        self.unreachable, self.submitted, self.cancelled = 0, [], []

    def start(self, sender: str) -> None:
        self._turn(True)

    def mark_unreachable(self) -> None:
        self.unreachable += 1
        self._turn(False)
        self._turn(self.comes_back)

    async def job(self, prompt_id: str) -> dict[str, Any] | None:
        if prompt_id in self.cancelled:
            return None
        self.answers -= 1
        if self.answers < 0:
            raise ComfyUIGone("It does not answer.")
        return {"status": "in_progress"}

    async def submit(self, prompt: Prompt, prompt_id: str) -> None:
        self.submitted.append(prompt_id)
        raise PromptRefused("It takes none.")

    async def cancel(self, prompt_id: str) -> None:
        self.cancelled.append(prompt_id)


class Unprepared:
    """Requests without a video and with an empty prompt: what prepares them, and what is prepared."""

    filled = Filled({"1": {"class_type": "Export", "inputs": {}}}, "1", {}, (), seed=1)

    async def prepare(self, job: Job, log: Log) -> Unprepared:
        return self

    async def fill(self, job: Job) -> Filled:
        return self.filled

    def remove_leftovers(self) -> None:
        pass

    def lent_to(self, comfyui: ComfyUI, prompt_id: str) -> None:
        pass

    async def bring_to(self, comfyui: ComfyUI, lent: str | None) -> None:
        pass

    async def discard(self) -> None:
        pass


def with_lanes(
    path: Path,
    comfyuis: Sequence[ComfyUI],
    most: int,
    scenario: Callable[[Lanes], Awaitable[None]],
    waits: str | None = None,
) -> None:
    """Runs a scenario with lanes in whose database "ended" has ended, and `waits` waits or "sent" is at the first ComfyUI."""

    async def run() -> None:
        jobs = Jobs(path / "requests.sqlite3")
        await jobs.accept(new("ended"))
        await jobs.end("ended", None, CANCELLED, [], None)
        if waits:
            await jobs.accept(new(waits))
        elif comfyuis:
            sent = await jobs.accept(new("sent"))
            await jobs.change(sent, state="sent", worker=comfyuis[0].url, attempt=1, attempts=1)
        queue = Queue(jobs, Unprepared(), most)
        queue.preparation.results = Results(path, None)
        by_url = {comfyui.url: comfyui for comfyui in comfyuis}
        lanes = Lanes(queue, 60.0, None, by_url.__getitem__)
        for url in by_url:
            lanes.add(url)
        queue.spawn(lanes.run())
        try:
            await asyncio.wait_for(scenario(lanes), SECONDS)
        finally:
            await lanes.close()
            await jobs.close()

    asyncio.run(run())


def test_a_comfyui_that_fails_is_left_alone_and_not_the_one_in_whose_place_it_was_asked(
    tmp_path: Path,
) -> None:
    fails, idle = Answering("http://fails", answers=1), Answering("http://idle", answers=0)
    fails.queued = 1

    async def scenario(lanes: Lanes) -> None:
        await lanes.queue.recovered()
        await lanes.queue.find("sent").ended.wait()
        assert (fails.unreachable, idle.unreachable) == (1, 0)
        assert (fails.submitted, idle.submitted) == ([], [attempt_id("sent", 2)])

    with_lanes(tmp_path, [fails, idle], 9, scenario)


def test_after_a_restart_what_waits_goes_to_an_idle_comfyui_though_a_busy_one_connects_first(
    tmp_path: Path,
) -> None:
    busy, idle = Answering("http://busy", answers=9), Answering("http://idle", answers=9)
    busy.queued = 1
    idle.start = lambda _: asyncio.get_running_loop().call_later(0.2, idle._turn, True)

    async def scenario(lanes: Lanes) -> None:
        await lanes.queue.recovered()
        await lanes.queue.find("waits").ended.wait()
        assert (busy.submitted, idle.submitted) == ([], ["waits"])

    with_lanes(tmp_path, [busy, idle], 9, scenario, waits="waits")


def test_a_request_ends_where_its_comfyui_can_never_say_whether_it_has_it(tmp_path: Path) -> None:
    fails = Answering("http://fails", answers=0, comes_back=True)

    async def scenario(lanes: Lanes) -> None:
        await lanes.queue.recovered()
        await lanes.queue.find("sent").ended.wait()
        assert (await lanes.queue.jobs.get("sent")).failure == MACHINE_LOST

    with_lanes(tmp_path, [fails], 9, scenario)


def test_a_request_whose_video_no_comfyui_can_store_ends_with_an_answer_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def refuse(_: Unprepared, comfyui: ComfyUI, lent: str | None) -> None:
        asked.append(comfyui.url)
        raise NoSpace("It is full")

    async def scenario(lanes: Lanes) -> None:
        await lanes.queue.recovered()
        await lanes.queue.find("waits").ended.wait()
        assert (await lanes.queue.jobs.get("waits")).failure == NO_SPACE
        assert set(asked) == {"http://one", "http://two"} and len(asked) == MOST_ATTEMPTS

    monkeypatch.setattr(lane, "FULL_SECONDS", 0.01)
    monkeypatch.setattr(lane, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(Unprepared, "bring_to", refuse)
    both = [Answering("http://one", answers=99), Answering("http://two", answers=99)]
    with_lanes(tmp_path, both, 9, scenario, waits="waits")


def test_a_request_that_is_cancelled_while_its_comfyui_is_away_is_stopped_there_later(tmp_path: Path) -> None:
    away = Answering("http://away", answers=1)
    away.start = lambda _: None

    async def scenario(lanes: Lanes) -> None:
        await lanes.queue.recovered()
        assert await lanes.queue.cancel("sent")
        assert (await lanes.queue.jobs.get("sent")).failure == CANCELLED
        await asyncio.sleep(0.05)
        assert away.cancelled == []
        away._turn(True)
        while away.cancelled != ["sent"]:
            await asyncio.sleep(0.01)

    with_lanes(tmp_path, [away], 9, scenario)


def test_a_comfyui_that_is_added_again_after_a_drain_nobody_waited_for_takes_requests(tmp_path: Path) -> None:
    comfyui = Answering("http://comes.back", answers=0)

    async def scenario(lanes: Lanes) -> None:
        await lanes.queue.recovered()
        await lanes.queue.find("sent").ended.wait()
        comfyui._turn(True)
        draining = asyncio.create_task(lanes.drain(comfyui.url))
        await asyncio.sleep(0)
        draining.cancel()
        await asyncio.sleep(0.2)
        lanes.add(comfyui.url)
        await lanes.queue.accept(new("later"))
        while attempt_id("later", 1) not in comfyui.submitted:
            await asyncio.sleep(0.01)

    comfyui.mark_unreachable = lambda: comfyui._turn(True)
    with_lanes(tmp_path, [comfyui], 9, scenario)


def test_notes_of_a_comfyui_whose_address_is_damaged_stop_nothing(tmp_path: Path) -> None:
    idle = Answering("http://idle", answers=0)

    async def damage() -> None:
        jobs = Jobs(tmp_path / "requests.sqlite3")
        sent = await jobs.accept(new("damaged"))
        sent = await jobs.change(sent, state="sent", worker="http://idle:x188", attempt=1, attempts=1)
        await jobs.change(sent, sent.leftover, state="sent")
        await jobs.close()

    async def scenario(lanes: Lanes) -> None:
        await lanes.queue.recovered()
        while "waits" not in idle.submitted:
            await asyncio.sleep(0.01)
        assert lanes.queue.find("damaged"), "its ComfyUI may be added yet"

    asyncio.run(damage())
    with_lanes(tmp_path, [idle], 9, scenario, waits="waits")


def test_videos_that_do_not_come_hold_up_no_other_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "SLOW_SECONDS", 1.0)
    idle, asked = Answering("http://idle", answers=0), []

    class Videos(Unprepared):
        async def prepare(self, job: Job, log: Log) -> Unprepared:
            asked.append(job.id)
            if job.id != "last":
                await asyncio.Event().wait()
            return self

    async def scenario(lanes: Lanes) -> None:
        await lanes.queue.recovered()
        while idle.submitted != ["first"]:
            await asyncio.sleep(0.01)
        lanes.queue.preparation = Videos()
        for number in range(20):
            await lanes.queue.accept(new(str(number), TO_VIDEO))
        assert len(asked) == VIDEOS_AHEAD
        await lanes.queue.accept(new("last", TO_VIDEO))
        while "last" not in idle.submitted:
            await asyncio.sleep(0.01)

    with_lanes(tmp_path, [idle], 99, scenario, waits="first")


def test_a_burst_does_not_pass_the_most_that_may_wait_and_what_is_known_is_answered(tmp_path: Path) -> None:
    async def scenario(lanes: Lanes) -> None:
        burst = [lanes.queue.accept(new(str(number))) for number in range(5)]
        answers = await asyncio.gather(*burst, return_exceptions=True)
        refused = [answer.failure.status for answer in answers if isinstance(answer, Refused)]
        assert refused == [429] * 3
        [(waiting, _), _] = [answer for answer in answers if isinstance(answer, tuple)]
        for known in (waiting.id, "ended"):
            job, is_new = await lanes.queue.accept(new(known))
            assert (job.id, is_new) == (known, False)

    with_lanes(tmp_path, [], 2, scenario)
