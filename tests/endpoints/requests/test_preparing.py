"""What a request needs before its turn: its video, wherever its URL leads."""

from __future__ import annotations

import asyncio
import base64
import errno
import json
from pathlib import Path

import pytest

from fast_animatediff.endpoints.comfyui.filling import load_workflows
from fast_animatediff.endpoints.inputs.uploads import Uploads
from fast_animatediff.endpoints.protocol.answers import Log
from fast_animatediff.endpoints.protocol.failure import Refused
from fast_animatediff.endpoints.protocol.settings import Settings
from fast_animatediff.endpoints.requests import preparing
from fast_animatediff.endpoints.requests.jobs import Jobs, NewJob
from fast_animatediff.endpoints.requests.preparing import NO_FILE, LocalVideo, Prepared
from fast_animatediff.endpoints.requests.results import Results
from fast_animatediff.tests.endpoints.inputs.fetching import GIF
from fast_animatediff.tests.endpoints.network import Names, Recorder
from fast_animatediff.tests.endpoints.served import APP, new_id

ENDPOINT = f"{APP}/turbo/video-to-video"
US = "http://127.0.0.1:8188"


def prepared(folder: Path, url: str) -> Prepared:
    async def run() -> Prepared:
        jobs, results = Jobs(folder / "requests.sqlite3"), Results(folder / "results", None)
        uploads, settings = Uploads(folder / "uploads", 1 << 20, 3600), Settings()
        preparation = preparing.Preparation(
            settings,
            load_workflows(settings),
            jobs,
            uploads,
            results,
            Names(),
            lambda _: None,
            folder / "incoming",
        )
        given = json.dumps({"prompt": "a", "video_url": url, "seed": 1})
        job = await jobs.accept(NewJob(new_id(), ENDPOINT, "d", given, "queue", US, False))
        try:
            return await asyncio.wait_for(preparation.prepare(job, Log()), 10)
        finally:
            await jobs.close()

    return asyncio.run(run())


@pytest.mark.parametrize("base", [US, "http://localhost:8188", "http://[::1]:8188"])
@pytest.mark.parametrize(
    "path", [f"files/{'6' * 8}-6666-4666-8666-{'6' * 12}/a.mp4", f"storage/files/{'6' * 32}/a.mp4", "nothing"]
)
def test_a_file_of_ours_that_is_gone_is_missed_and_not_asked_for_over_the_network(
    tmp_path: Path, recorder: Recorder, base: str, path: str
) -> None:
    with pytest.raises(Refused) as refused:
        prepared(tmp_path, f"{base}/fal/{path}")
    assert refused.value.failure == NO_FILE and recorder.tried == []


@pytest.mark.parametrize(
    "base", ["https://gpu.lan:8190", "http://example.com/comfyui", "HTTP://127.0.0.1:8189"]
)
def test_an_uploaded_file_is_the_video_at_whatever_name_of_ours_it_was_uploaded(
    tmp_path: Path, recorder: Recorder, base: str
) -> None:
    path = Uploads(tmp_path / "uploads", 1 << 20, 3600).new("a.gif")
    file = tmp_path / "uploads" / Path(path).parent.name / "a.gif"
    file.write_bytes(GIF)
    for url in (base + path, f" {base}{path}?x=1", f"{base}{path}#t=1", f"{base}{path}\n"):
        assert prepared(tmp_path, url).video == LocalVideo(file, is_fetched=False)
    assert recorder.tried == []


def test_a_video_is_fetched_once_the_disk_has_space_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, fetch = [], preparing.fetch

    async def fetch_to_a_full_disk(*arguments: object) -> Path:
        tried.append(arguments)
        if len(tried) < 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return await fetch(*arguments)

    monkeypatch.setattr(preparing, "fetch", fetch_to_a_full_disk)
    monkeypatch.setattr(preparing, "FULL_SECONDS", 0.01)
    found = prepared(tmp_path, f"data:image/gif;base64,{base64.b64encode(GIF).decode()}")
    assert isinstance(found.video, LocalVideo) and found.video.path.read_bytes() == GIF
