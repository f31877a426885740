"""Addresses that a request may name: public ones and those that the owner allows; no packet goes to another."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
import time
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from fast_animatediff.endpoints.inputs.addresses import Names as SystemNames
from fast_animatediff.endpoints.inputs.addresses import is_allowed, is_public
from fast_animatediff.endpoints.inputs.videos import fetch
from fast_animatediff.endpoints.protocol.failure import Refused
from fast_animatediff.tests.endpoints.inputs.fetching import STRANGER, fetch_now, refusal
from fast_animatediff.tests.endpoints.network import Names, Recorder, serving

PRIVATE_URLS = [
    "http://127.0.0.1/a.mp4",
    "http://127.1/a.mp4",
    "http://2130706433/a.mp4",
    "http://0x7f.0.0.1/a.mp4",
    "http://0177.0.0.1/a.mp4",
    "http://127.0.0.1./a.mp4",
    "http://0.0.0.0/a.mp4",
    "http://0/a.mp4",
    "http://10.1.2.3/a.mp4",
    "http://172.16.0.1/a.mp4",
    "http://192.168.1.1/a.mp4",
    "http://100.64.0.1/a.mp4",
    "http://169.254.169.254/latest/meta-data",
    "http://198.18.0.1/a.mp4",
    "http://224.0.0.1/a.mp4",
    "http://240.0.0.1/a.mp4",
    "http://255.255.255.255/a.mp4",
    "http://[::1]/a.mp4",
    "http://[::]/a.mp4",
    "http://[::ffff:127.0.0.1]/a.mp4",
    "http://[::ffff:a9fe:a9fe]/a.mp4",
    "http://[::127.0.0.1]/a.mp4",
    "http://[64:ff9b::7f00:1]/a.mp4",
    "http://[2002:7f00:1::]/a.mp4",
    "http://[fe80::1]/a.mp4",
    "http://[fe80::1%25lo]/a.mp4",
    "http://[fc00::1]/a.mp4",
    "http://[fec0::1]/a.mp4",
    "http://[ff02::1]/a.mp4",
    "https://127.0.0.1/a.mp4",
    "http://１２７.０.０.１/a.mp4",
]


@pytest.mark.parametrize("url", PRIVATE_URLS)
def test_an_address_that_is_not_public_is_never_connected_to(
    tmp_path: Path, recorder: Recorder, url: str
) -> None:
    refusal(lambda: fetch_now(url, tmp_path), tmp_path)
    assert recorder.tried == [] and recorder.looked_up == []


def test_a_public_address_is_connected_to(tmp_path: Path, recorder: Recorder) -> None:
    """That the recorder sees what is let through, so that its silence above means something."""
    names = Names(clips_example=[["93.184.215.14", "2606:4700::1111"]])
    for url in ("http://93.184.215.14:8080/a.mp4", "https://clips.example/a.mp4"):
        refusal(lambda url=url: fetch_now(url, tmp_path, names=names), tmp_path)
    assert ("93.184.215.14", 8080) in recorder.stopped and ("93.184.215.14", 443) in recorder.stopped
    assert ("2606:4700::1111", 443) in recorder.stopped


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::1", "::ffff:192.168.0.1", "169.254.169.254"])
def test_a_name_that_leads_to_a_private_address_is_refused(
    tmp_path: Path, recorder: Recorder, address: str
) -> None:
    names = Names(inside_example=[[address]])
    _, message = refusal(lambda: fetch_now("http://inside.example/a", tmp_path, names=names), tmp_path)
    assert "inside.example does not lead to a public address" in message and address not in message
    assert names.asked == ["inside.example"] and recorder.tried == []


def test_of_several_addresses_only_public_ones_are_tried(tmp_path: Path, recorder: Recorder) -> None:
    names = Names(mixed_example=[["127.0.0.1", "::1", "93.184.215.14"]])
    refusal(lambda: fetch_now("http://mixed.example/a", tmp_path, names=names), tmp_path)
    assert set(recorder.tried) == {("93.184.215.14", 80)}


@pytest.mark.parametrize("target", ["http://127.0.0.1:{port}/x", "http://inside.example:{port}/x"])
def test_a_redirect_to_a_private_address_is_refused(tmp_path: Path, recorder: Recorder, target: str) -> None:
    asked = []

    async def run() -> None:
        async def handler(request: web.Request) -> web.Response:
            asked.append(request.path)
            raise web.HTTPFound(target.format(port=request.url.port))

        names = Names(clips_example=[["127.0.0.1"]], inside_example=[["127.0.0.1"]])
        trusted = STRANGER.model_copy(update={"allowed_hosts": ("clips.example",)})
        async with serving(handler) as port:
            await fetch(f"http://clips.example:{port}/clip", tmp_path, trusted, names)

    refusal(lambda: asyncio.run(run()), tmp_path)
    assert asked == ["/clip"] and len(recorder.tried) == 1


def test_a_name_that_changes_its_address_gains_nothing(tmp_path: Path, recorder: Recorder) -> None:
    names = Names(turning_example=[["93.184.215.14"], ["127.0.0.1"], ["93.184.215.14"]])
    for _ in range(3):
        refusal(lambda: fetch_now("http://turning.example/a", tmp_path, names=names), tmp_path)
    assert (
        recorder.tried == [("93.184.215.14", 80)] * 2
    )  # each the one that was just checked, never looked up again
    assert names.asked == ["turning.example"] * 3


def test_names_that_nobody_answers_for_hold_up_no_other_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()

    def look_up(*_: object) -> None:
        answered.wait()
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)

    async def scenario() -> float:
        urls = [f"http://a{number}.example/a.mp4" for number in range(32)]
        names = SystemNames()
        asking = [asyncio.create_task(fetch(url, tmp_path, STRANGER, names)) for url in urls]
        await asyncio.sleep(0.2)
        began = time.monotonic()
        await asyncio.wait_for(asyncio.to_thread(list, tmp_path.iterdir()), 5)
        seconds = time.monotonic() - began
        answered.set()
        assert all(
            isinstance(each, Refused) for each in await asyncio.gather(*asking, return_exceptions=True)
        )
        await names.close()
        return seconds

    try:
        assert asyncio.run(scenario()) < 1
    finally:
        answered.set()
    for thread in threading.enumerate():
        if thread.name.startswith("endpoints-names"):
            thread.join(5)
            assert not thread.is_alive(), "its threads end with the names"
    assert list(tmp_path.iterdir()) == []


def test_an_allowed_host_allows_no_other_name_with_its_address(tmp_path: Path, recorder: Recorder) -> None:
    names = Names(nas_local=[["127.0.0.1"]], evil_example=[["127.0.0.1"]])
    trusted = STRANGER.model_copy(update={"allowed_hosts": ("nas.local",)})
    refusal(lambda: fetch_now("http://evil.example:9/a", tmp_path, trusted, names), tmp_path)
    assert recorder.tried == []
    refusal(
        lambda: fetch_now("http://NAS.local.:9/a", tmp_path, trusted, Names(**{"NAS_local_": []})), tmp_path
    )
    refusal(lambda: fetch_now("http://nas.local:9/a", tmp_path, trusted, names), tmp_path)
    assert recorder.tried == [("127.0.0.1", 9)]


PRIVATE_NETWORKS = (
    "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.168.0.0/16 224.0.0.0/3"
)


@given(st.data())
def test_no_address_of_a_private_network_is_public_in_any_notation(data: st.DataObject) -> None:
    network = ipaddress.ip_network(data.draw(st.sampled_from(PRIVATE_NETWORKS.split())))
    address = network[data.draw(st.integers(0, network.num_addresses - 1))]
    number = int(address)
    written = (address, number, f"::ffff:{address}", f"::{address}", f"64:ff9b::{address}")
    six = ipaddress.ip_address(0x2002 << 112 | number << 80)
    assert not any(is_public(str(form)) for form in (*written, six, six.exploded))


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("url", "entry", "expected"),
    [
        ("http://nas.local/a", "nas.local", True),
        ("http://nas.local:8080/a", "nas.local", True),
        ("http://nas.local:8080/a", "nas.local:8080", True),
        ("http://nas.local/a", "nas.local:8080", False),
        ("https://nas.local/a", "nas.local:443", True),
        ("http://nas.local.evil.example/a", "nas.local", False),
        ("http://evil.example/nas.local", "nas.local", False),
        ("http://[::1]/a", "::1", True),
        ("http://[0:0::1]:81/a", "[::1]:81", True),
        ("http://192.168.1.5/a", "192.168.1.5", True),
        ("http://192.168.1.55/a", "192.168.1.5", False),
    ],
)
def test_an_entry_of_allowed_hosts_means_this_host_and_this_port(
    url: str, entry: str, expected: bool
) -> None:
    assert is_allowed(URL(url), [entry]) is expected
