"""What operators ask: whether the endpoints live and are ready, their numbers, and the key that webhooks are signed with."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

from aiohttp import web

from ..requests.lanes import Lanes
from ..requests.signing import Signer

PREFIX = "fast_animatediff"
TEXT = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}  # Prometheus' format


def add_operations(router: web.UrlDispatcher, lanes: Lanes, signer: Signer) -> None:
    """Handlers that need no key. They tell numbers, and nothing of any request."""

    async def health(request: web.Request) -> web.Response:
        is_ready = lanes.queue.ready.is_set() and lanes.is_serving()
        status = 503 if request.path.endswith("/ready") and not is_ready else 200
        return web.json_response({"alive": True, "ready": is_ready}, status=status)

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body="\n".join([*lines(lanes), ""]).encode(), headers=TEXT)

    async def key_set(request: web.Request) -> web.Response:
        return web.json_response(await asyncio.to_thread(signer.key_set))

    router.add_get("/health", health)
    router.add_get("/health/ready", health)
    router.add_get("/metrics", metrics)
    router.add_get("/.well-known/jwks.json", key_set)


def lines(lanes: Lanes) -> Iterator[str]:
    """Of what there is now, and of what has ended since the process started."""
    queue = lanes.queue
    yield from about("requests", "gauge", "Requests that have not ended.")
    yield sample("requests", queue.waiting, state="waiting")
    yield sample("requests", queue.running, state="running")
    yield from about("workers", "gauge", "ComfyUIs by what they are doing.")
    for state, number in sorted(Counter(lane.state for lane in lanes.states()).items()):
        yield sample("workers", number, state=state)
    yield from about("requests_ended_total", "counter", "Requests that have ended, by how.")
    for (endpoint, outcome), number in sorted(queue.ended.items()):
        yield sample("requests_ended_total", number, endpoint=endpoint, outcome=outcome)
    yield from about("request_seconds", "summary", "How long requests with a result ran.")
    for endpoint, seconds in sorted(queue.seconds.items()):
        yield sample("request_seconds_sum", round(seconds, 3), endpoint=endpoint)
        yield sample("request_seconds_count", queue.ended[endpoint, "completed"], endpoint=endpoint)


def about(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {PREFIX}_{name} {text}", f"# TYPE {PREFIX}_{name} {kind}"


def sample(name: str, value: float, **labels: str) -> str:
    told = ",".join(f'{label}="{text}"' for label, text in labels.items())
    return f"{PREFIX}_{name}{{{told}}} {value}"
