"""What operators rely on: health, numbers for Prometheus, and webhooks that can be told from forged ones."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fast_animatediff.dev_server.host import ROOT
from fast_animatediff.fleet.worker import free_port
from fast_animatediff.tests.endpoints.network import serving
from fast_animatediff.tests.endpoints.requests.test_queue import eventually
from fast_animatediff.tests.endpoints.served import SMALL, TURBO, Front, Served


def numbers(front: Front | Served) -> dict[str, float]:
    text = front.http.get(f"{front.address}/fal/metrics")
    assert text.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = [line for line in text.text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r'[a-z_]+\{([a-z]+="[^"]*",?)+\} [0-9.]+', line) for line in lines), lines
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_health_tells_whether_there_is_a_comfyui_and_numbers_tell_what_waits(tmp_path: Path) -> None:
    with Front(tmp_path / "front", f"http://127.0.0.1:{free_port()}") as front:
        health = front.http.get(f"{front.address}/fal/health")
        assert (health.status_code, health.json()) == (200, {"alive": True, "ready": False})
        assert front.http.get(f"{front.address}/fal/health/ready").status_code == 503
        waits, cancelled = front.submitted(SMALL), front.submitted(SMALL)
        front.http.put(f"{front.url(cancelled)}/cancel")
        told = numbers(front)
        assert told['fast_animatediff_requests{state="waiting"}'] == 1
        assert told['fast_animatediff_workers{state="away"}'] == 1
        name = "fast_animatediff_requests_ended_total"
        assert told[f'{name}{{endpoint="{TURBO}",outcome="client_cancelled"}}'] == 1
        for event, request_id in (("accepted", waits), ("ended", cancelled)):
            assert re.search(rf"{event} request_id={request_id} endpoint={TURBO}", front.log)


@pytest.mark.server
def test_a_result_is_counted_with_its_seconds(served: Served) -> None:
    ready = f"{served.address}/fal/health/ready"
    eventually(lambda: served.http.get(ready).status_code == 200)  # once they have connected to this server
    assert served.http.get(ready).json() == {"alive": True, "ready": True}
    before = numbers(served)
    began = time.monotonic()
    assert served.run(SMALL | {"seed": 81}).status_code == 200
    told = numbers(served)
    count, total = (
        f'fast_animatediff_request_seconds_{end}{{endpoint="{TURBO}"}}' for end in ("count", "sum")
    )
    assert told[count] == before.get(count, 0) + 1
    assert 0 < told[total] - before.get(total, 0) <= time.monotonic() - began
    assert told['fast_animatediff_workers{state="idle"}'] == 1


def verify(key_set: dict, headers: dict[str, str], body: bytes) -> None:
    """As the service tells its receivers to do it. Errors: InvalidSignature."""
    names = ("Request-Id", "User-Id", "Timestamp")
    told = [headers[f"X-Fal-Webhook-{name}"] for name in names]
    assert abs(int(told[2]) - time.time()) < 300
    message = "\n".join([*told, hashlib.sha256(body).hexdigest()]).encode()
    [key] = key_set["keys"]
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "="))
    public.verify(bytes.fromhex(headers["X-Fal-Webhook-Signature"]), message)


def test_webhooks_are_signed_with_a_key_that_outlives_a_restart_and_is_published(tmp_path: Path) -> None:
    heard: list[tuple[dict[str, str], bytes]] = []

    async def listener(request: web.Request) -> web.Response:
        heard.append((dict(request.headers), await request.read()))
        return web.Response()

    async def scenario() -> None:
        front = Front(tmp_path / "front", f"http://127.0.0.1:{free_port()}")
        async with serving(listener) as port:
            for number in (1, 2):
                await asyncio.to_thread(front.start)
                url = f"http://127.0.0.1:{port}/hook"
                async with httpx.AsyncClient() as http:
                    ask = f"{front.address}/fal/queue/{TURBO}?fal_webhook={url}"
                    answer = (await http.post(ask, json=SMALL)).json()
                    await http.put(answer["cancel_url"])
                    while len(heard) < number:
                        await asyncio.sleep(0.05)
                    key_set = (await http.get(f"{front.address}/fal/.well-known/jwks.json")).json()
                front.kill()
                assert heard[-1][0]["X-Fal-Webhook-Request-Id"] == answer["request_id"]
                for headers, body in heard:
                    verify(key_set, headers, body)
                with pytest.raises(InvalidSignature):
                    verify(key_set, headers, body + b" ")
        [key] = front.base.rglob("webhook-key")
        assert stat.S_IMODE(key.stat().st_mode) == 0o600

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_without_cryptography_nothing_is_signed_and_no_key_is_published(tmp_path: Path) -> None:
    script = """
import sys
sys.modules["cryptography"] = None
sys.argv = ["signing"]
import importlib.util
spec = importlib.util.spec_from_file_location("signing", ROOT + "/endpoints/requests/signing.py")
signing = importlib.util.module_from_spec(spec)
spec.loader.exec_module(signing)
from pathlib import Path
signer = signing.Signer(Path(FOLDER) / "key")
assert (signer.headers("a", b"b"), signer.key_set()) == ({}, {"keys": []})
"""
    head = f"ROOT, FOLDER = {str(ROOT)!r}, {str(tmp_path)!r}\n"
    subprocess.run([sys.executable, "-I", "-c", head + script], check=True, timeout=60)
    assert list(tmp_path.iterdir()) == []
