from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from fast_animatediff.dev_server.clip import write_clip
from fast_animatediff.endpoints.protocol.settings import Settings
from fast_animatediff.endpoints.requests.lanes import Lanes
from fast_animatediff.endpoints.serving import LANES, UPLOADS, front
from fast_animatediff.fleet.driver import Driver, Work
from fast_animatediff.fleet.ledger import Clip, Ledger
from fast_animatediff.fleet.manifest import folder_items
from fast_animatediff.fleet.progress import Display, Progress

VIDEO = "fal-ai/fast-animatediff/turbo/video-to-video"


def driven(
    tmp_path: Path, before: Callable[[Path], None], meanwhile: Callable[[web.Application], Awaitable[None]]
) -> Clip:
    """What came of one video, without any ComfyUI. before: gets the video once it has been listed."""
    (tmp_path / "videos").mkdir()
    write_clip(tmp_path / "videos" / "holiday.mp4")
    [item] = folder_items(tmp_path / "videos", VIDEO, {"prompt": "a green square"})
    before(tmp_path / "videos" / "holiday.mp4")
    (tmp_path / "out").mkdir()
    app = front(Settings(database=tmp_path / "out" / "requests.sqlite3"))

    async def run() -> None:
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            work = [Work(item, Clip(item.name, "digest", "failed"))]
            await asyncio.gather(driver.run(work, Progress(1)), meanwhile(app))
        finally:
            await runner.cleanup()

    with Ledger(tmp_path / "out") as ledger:
        driver = Driver(tmp_path / "out", ledger, app[LANES], str, 3, Display(as_json=True))
        asyncio.run(run())
    [clip] = driver.ended
    return clip


def test_a_video_that_was_deleted_meanwhile_is_one_failed_clip_and_not_the_end(tmp_path: Path) -> None:
    async def nothing(app: web.Application) -> None:
        pass

    clip = driven(tmp_path, Path.unlink, nothing)
    assert (clip.state, clip.reason, clip.attempts) == ("failed", "holiday.mp4 is no longer there.", 1)


def test_nothing_of_a_video_is_kept_once_its_request_has_ended(tmp_path: Path) -> None:
    async def cancel(app: web.Application) -> None:
        lanes: Lanes = app[LANES]
        while not lanes.queue.waiting:
            await asyncio.sleep(0.01)
        assert list(app[UPLOADS].folder.rglob("*.mp4"))
        [request] = await lanes.queue.jobs.open_jobs()
        await lanes.queue.cancel(request.id)

    clip = driven(tmp_path, Path.exists, cancel)
    assert clip.state == "failed"
    assert not list((tmp_path / "out" / "requests-files" / "uploads").iterdir())
