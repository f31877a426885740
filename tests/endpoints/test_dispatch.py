"""Where requests go, and how many may wait: the queue by itself, with ComfyUIs that answer as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fast_animatediff.endpoints.comfyui import ComfyUI, ComfyUIGone, Prompt, PromptRefused
from fast_animatediff.endpoints.failure import MACHINE_LOST, Refused
from fast_animatediff.endpoints.filling import Filled
from fast_animatediff.endpoints.jobs import Jobs, NewJob
from fast_animatediff.endpoints.progress import Log
from fast_animatediff.endpoints.queue import Queue

SECONDS = 10.0


class Answering(ComfyUI):
    """Knows a prompt the first `answers` times it is asked, then its HTTP fails. Refuses every new prompt."""

    def __init__(self, url: str, answers: int, comes_back: bool = False) -> None:
        super().__init__(url)
        self.answers, self.comes_back = answers, comes_back
        self.unreachable, self.submitted = 0, []

    def start(self) -> None:
        self._turn(True)

    def mark_unreachable(self) -> None:
        self.unreachable += 1
        self._turn(self.comes_back)

    async def job(self, prompt_id: str) -> dict[str, Any] | None:
        self.answers -= 1
        if self.answers < 0:
            raise ComfyUIGone("It does not answer.")
        return {"status": "in_progress"}

    async def submit(self, prompt: Prompt, prompt_id: str) -> None:
        self.submitted.append(prompt_id)
        raise PromptRefused("It takes none.")

    async def cancel(self, prompt_id: str) -> None:
        pass


class Unprepared:
    """Requests without a video and with an empty prompt."""

    async def upload_input(self, job: object, request: object, comfyui: ComfyUI, log: Log) -> None:
        return None

    async def discard_input(self, job: object, comfyui: ComfyUI) -> None:
        pass

    def fill(self, job: object, request: object, video: str | None, log: Log) -> Filled:
        return Filled({}, "", {}, [])


def new(name: str) -> NewJob:
    return NewJob(name, "endpoint", "digest", '{"seed": 1}', "queue", "http://localhost", True)


def with_queue(
    path: Path, comfyuis: list[ComfyUI], most: int, scenario: Callable[[Queue], Awaitable[None]]
) -> None:
    """Runs a scenario with a queue in whose database "sent" is at the first ComfyUI, and "ended" has ended."""

    async def run() -> None:
        jobs = Jobs(path / "requests.sqlite3")
        await jobs.accept(new("ended"))
        await jobs.end("ended", {"filename": "a.mp4"}, None, [], None)
        if comfyuis:
            await jobs.accept(new("sent"))
            await jobs.send("sent", comfyuis[0].url)
        queue = Queue(jobs, comfyuis, Unprepared(), most, keep=3600.0)
        queue.start()
        try:
            await asyncio.wait_for(scenario(queue), SECONDS)
        finally:
            await queue.close()

    asyncio.run(run())


def test_a_comfyui_that_fails_is_left_alone_and_not_the_one_in_whose_place_it_was_asked(
    tmp_path: Path,
) -> None:
    fails, idle = Answering("http://fails", answers=1), Answering("http://idle", answers=0)
    fails.queued = 1

    async def scenario(queue: Queue) -> None:
        await queue.recovered()
        live = queue.live("sent")
        await live.ended.wait()
        assert (fails.unreachable, idle.unreachable) == (1, 0)
        assert (fails.submitted, idle.submitted) == ([], ["sent"])

    with_queue(tmp_path, [fails, idle], 9, scenario)


def test_a_request_ends_where_its_comfyui_can_never_say_whether_it_has_it(tmp_path: Path) -> None:
    fails = Answering("http://fails", answers=0, comes_back=True)

    async def scenario(queue: Queue) -> None:
        await queue.recovered()
        await queue.live("sent").ended.wait()
        assert (await queue.jobs.get("sent")).failure == MACHINE_LOST

    with_queue(tmp_path, [fails], 9, scenario)


def test_a_burst_does_not_pass_the_most_that_may_wait_and_what_is_known_is_answered(tmp_path: Path) -> None:
    async def scenario(queue: Queue) -> None:
        burst = [queue.accept(new(str(number))) for number in range(5)]
        answers = await asyncio.gather(*burst, return_exceptions=True)
        refused = [answer.failure.status for answer in answers if isinstance(answer, Refused)]
        assert refused == [429] * 3
        [(waiting, _), _] = [answer for answer in answers if isinstance(answer, tuple)]
        for known in (waiting.id, "ended"):
            job, is_new = await queue.accept(new(known))
            assert (job.id, is_new) == (known, False)

    with_queue(tmp_path, [], 2, scenario)
