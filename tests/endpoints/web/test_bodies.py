"""Large bodies: a long data URI is taken, many values are refused, and ComfyUI goes on answering meanwhile."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fast_animatediff.endpoints.web.bodies import Weight
from fast_animatediff.tests.endpoints.requests.test_load import resident_megabytes
from fast_animatediff.tests.endpoints.served import APP, TURBO, Served

MEGABYTES = 95
BOMBS = {
    "objects": b'{"prompt": "x", "a": [' + b"{}," * 1000,
    "numbers": b'{"prompt": "x", "a": [' + b"0.1," * 1000,
    "texts": b'{"prompt": "x", "a": [' + b'"x",' * 1000,
    "lists": b"[" * 1000,
    "keys": b'{"prompt": "x",' + b'"a": 1,' * 1000,
    "quotes": b'{"prompt": "x", "a": "' + b'\\"' * 1000,
    "spaces": b'{"prompt": "x"' + b" " * 1000,
    "long texts": b'{"a": "' + b"x" * 5000 + b'", "b": "' + b"y" * 5000,
}
JSON = st.recursive(
    st.none() | st.integers() | st.text('\\"/\né,[]{}:ab'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('\\"ab'), inner, max_size=4),
    max_leaves=10,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(JSON, st.booleans(), st.lists(st.integers(1, 7), min_size=1))
def test_what_lies_beside_the_longest_string_is_counted_however_the_body_arrives(
    value: object, is_ascii: bool, sizes: list[int]
) -> None:
    body = json.dumps(value, ensure_ascii=is_ascii).encode()
    strings = re.findall(rb'"((?:[^"\\]|\\.)*)"', body, re.DOTALL)
    longest = max((len(re.sub(rb'\\[\\"]', b"", string)) for string in strings), default=0)
    weight, start = Weight(), 0
    while start < len(body):
        size = sizes[start % len(sizes)]
        weight.add(body[start : start + size])
        start += size
    assert weight.beside == len(body) - longest


@contextmanager
def longest_silence(served: Served) -> Iterator[list[float]]:
    """While the block runs, ComfyUI is asked without a pause; then the list holds the most that it did before an answer, in
    seconds of its processor time. The clock would count what else this machine does, too."""
    silences: list[float] = [0.0]
    done = threading.Event()
    comfyui = psutil.Process(served.server.pid)

    def ask() -> None:
        while not done.is_set():
            before = comfyui.cpu_times()
            served.http.get(f"{served.address}/system_stats").raise_for_status()
            after = comfyui.cpu_times()
            silences[0] = max(silences[0], after.user + after.system - before.user - before.system)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            yield silences
        finally:
            done.set()
            asking.result()  # an answer that never came is no silence of 0 s


def stream(body: bytes) -> Iterator[bytes]:
    """The body, with its second half repeated until it is as long as a request may be."""
    yield body
    again = body[len(body) // 2 :] * 100
    again = again[len(again) % 2 :]
    for _ in range((MEGABYTES << 20) // len(again)):
        yield again


@pytest.mark.server
@pytest.mark.parametrize("path", [f"queue/{TURBO}", "storage/upload/initiate"])
@pytest.mark.parametrize("kind", BOMBS)
def test_a_body_of_many_values_is_refused_without_a_pause_of_comfyui_or_much_memory(
    served: Served, kind: str, path: str
) -> None:
    before = resident_megabytes(served.server.pid)
    with longest_silence(served) as silences:
        answer = served.http.post(f"{served.address}/fal/{path}", content=stream(BOMBS[kind]))
    assert answer.status_code == 413 and "longest string" in answer.text
    assert silences[0] < 1 and resident_megabytes(served.server.pid) - before < 50


@pytest.mark.server
def test_a_compressed_body_of_many_values_is_refused_too(served: Served) -> None:
    packed = gzip.compress(b"".join(stream(BOMBS["objects"])))
    with longest_silence(served) as silences:
        answer = served.http.post(
            f"{served.address}/fal/queue/{TURBO}", content=packed, headers={"Content-Encoding": "gzip"}
        )
    assert answer.status_code == 413 and silences[0] < 1


@pytest.mark.slow
@pytest.mark.server
def test_a_long_data_uri_is_read_and_checked_while_comfyui_answers(served: Served) -> None:
    uri = "data:video/mp4;base64," + f"{'A' * 63}/" * (MEGABYTES << 14)
    whole, only = (json.dumps(fields | {"video_url": uri}).encode() for fields in ({"prompt": "x"}, {}))
    as_php = b'{"prompt": "x", "video_url": "%s"}' % uri.replace("/", r"\/").encode()
    url = f"{served.address}/fal/run/{APP}/turbo/video-to-video"
    with longest_silence(served) as silences:
        answers = [served.http.post(url, content=content) for content in (whole, as_php, only)]
    problems = [(answer.status_code, answer.json()["detail"][0]["type"]) for answer in answers]
    assert problems == [(422, "unsupported_video_format")] * 2 + [(422, "missing")]
    assert all(len(answer.content) < 1000 for answer in answers)
    assert silences[0] < 1
