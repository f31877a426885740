"""Code written for the hosted service with @fal-ai/client, against this server, by its `proxyUrl`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from fast_animatediff.dev_server.set_up import clips
from fast_animatediff.tests.endpoints.served import Served

FOLDERS = os.environ.get("NODE_PATH", "").split(os.pathsep)
HAS_CLIENT = shutil.which("node") and any(Path(folder, "@fal-ai", "client").is_dir() for folder in FOLDERS)
pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(not HAS_CLIENT, reason="needs Node.js and @fal-ai/client (NODE_PATH)"),
]


@pytest.mark.parametrize("mode", ["polling", "streaming"])
def test_subscribe_gives_the_logs_and_the_result(served: Served, mode: str) -> None:
    seed = len(mode)  # a seed that was used would be answered from ComfyUI's cache, without sampling
    told = served.javascript(f"""
let lines = [];
const input = {{ ...INPUT, seed: {seed} }};
const result = await fal.subscribe(APP, {{ input, logs: true, mode: "{mode}", pollInterval: 50,
  onQueueUpdate: (update) => {{ if (update.logs) lines = update.logs.map((log) => log.message); }} }});
console.log(JSON.stringify({{ ...result, lines }}));""")
    assert told["data"]["seed"] == seed and told["data"]["video"]["content_type"] == "video/mp4"
    assert told["data"]["video"]["url"].startswith(f"{served.address}/fal/files/")
    assert told["requestId"] in told["data"]["video"]["file_name"]
    assert told["lines"].count("Sampling: step 2 of 2") == 1


def test_run_and_the_queue_functions_work(served: Served) -> None:
    told = served.javascript("""
const ran = await fal.run(APP, { input: INPUT });
const { request_id } = await fal.queue.submit(APP, { input: LONG });
const first = await fal.queue.status(APP, { requestId: request_id, logs: true });
await fal.queue.cancel(APP, { requestId: request_id });
await fal.queue.subscribeToStatus(APP, { requestId: request_id });
const error = await fal.queue.result(APP, { requestId: request_id }).catch((error) => error);
console.log(JSON.stringify([ran.data.seed, first.status, error.name, error.status, error.body]));""")
    assert told[0] == 1 and told[1] in ("IN_QUEUE", "IN_PROGRESS")
    assert told[2:4] == ["ApiError", 499] and told[4]["error_type"] == "client_cancelled"


def test_a_wrong_value_is_a_validation_error_with_field_errors(served: Served) -> None:
    told = served.javascript("""
const error = await fal.run(APP, { input: { ...INPUT, fps: 99 } }).catch((error) => error);
console.log(JSON.stringify([error.name, error.status, error.getFieldErrors("fps").length]));""")
    assert told == ["ValidationError", 422, 1]


def test_a_file_of_more_than_90_megabytes_is_uploaded_in_parts(served: Served) -> None:
    told = served.javascript("""
const content = require("crypto").randomBytes(91 << 20);
const url = await fal.storage.upload(new Blob([content], { type: "video/mp4" }));
const back = Buffer.from(await (await fetch(url)).arrayBuffer());
console.log(JSON.stringify([content.length, back.equals(content)]));""")
    assert told == [91 << 20, True]


def test_a_stream_fails_with_a_clear_answer(served: Served) -> None:
    told = served.javascript("""
const failed = async () => (await fal.stream(APP, { input: INPUT })).done();
const error = await failed().catch((error) => error);
console.log(JSON.stringify([error.status, error.body.detail]));""")
    assert told[0] == 404 and "Streams" in told[1]


def test_a_file_in_the_input_is_uploaded_and_becomes_the_video(served: Served) -> None:
    clip = next(path for path in clips(served.base) if path.suffix == ".mp4")
    told = served.javascript(f"""
const clip = new Blob([require("fs").readFileSync({str(clip)!r})], {{ type: "video/mp4" }});
const input = {{ prompt: "x", video_url: clip, strength: 0, first_n_seconds: 2, fps: 1 }};
const result = await fal.subscribe("fal-ai/fast-animatediff/turbo/video-to-video", {{ input }});
console.log(JSON.stringify(result.data));""")
    assert told["video"]["file_size"] > 0
