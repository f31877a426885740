"""What an endpoint costs over the bare /prompt: the same cached prompt, asked both ways in turns.

`python3 dev.py bench endpoints [--times 50]`. Bar: under 50 ms per request, in the median.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import json
import os
import statistics
import sys
import time
import uuid

import aiohttp
from run import name_checkout

BAR_MS = 50.0
ENDPOINT = "fal-ai/fast-animatediff/turbo/text-to-video"
REQUEST = {
    "prompt": "a red circle moving left",
    "num_frames": 2,
    "num_inference_steps": 2,
    "video_size": {"width": 64, "height": 64},
    "seed": 1,
}


async def ask_endpoint(session: aiohttp.ClientSession) -> float:
    start = time.perf_counter()
    async with session.post(f"/fal/run/{ENDPOINT}", json=REQUEST) as answer:
        answer.raise_for_status()
        await answer.read()
    return time.perf_counter() - start


async def ask_prompt(
    session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse, client_id: str, prompt: dict
) -> float:
    """Until the host says that the prompt has ended and has shown its history."""
    prompt = copy.deepcopy(prompt)
    export = next(node for node in prompt.values() if node["class_type"] == "FAD_ExportVideo")
    export["inputs"]["filename_prefix"] = f"video/bare-{uuid.uuid4()}"
    start = time.perf_counter()
    async with session.post("/prompt", json={"prompt": prompt, "client_id": client_id}) as answer:
        prompt_id = (await answer.json())["prompt_id"]
    async for message in socket:
        if message.type != aiohttp.WSMsgType.TEXT:
            continue
        event = json.loads(message.data)
        data = event.get("data") or {}
        if event["type"] == "executing" and data.get("node") is None and data.get("prompt_id") == prompt_id:
            break
    async with session.get(f"/history/{prompt_id}") as answer:
        await answer.json()
    return time.perf_counter() - start


async def compare(address: str, times: int) -> tuple[list[float], list[float]]:
    client_id = uuid.uuid4().hex
    async with aiohttp.ClientSession(address) as session:
        await ask_endpoint(session)
        async with session.get("/history") as answer:
            prompt = list((await answer.json()).values())[-1]["prompt"][2]
        async with session.ws_connect(f"/ws?clientId={client_id}", max_msg_size=0) as socket:
            await ask_prompt(session, socket, client_id, prompt)
            endpoint, bare = [], []
            for _ in range(times):
                bare.append(await ask_prompt(session, socket, client_id, prompt))
                endpoint.append(await ask_endpoint(session))
    return endpoint, bare


def show(title: str, seconds: list[float]) -> None:
    ms = sorted(value * 1000 for value in seconds)
    print(f"{title:10} median {statistics.median(ms):6.1f} ms, 95% {ms[int(len(ms) * 0.95)]:6.1f} ms")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=50)
    times = parser.parse_args().times
    name_checkout()
    from fast_animatediff.dev_server.host import base_folder, host_folder
    from fast_animatediff.dev_server.server import ComfyServer
    from fast_animatediff.dev_server.set_up import set_up

    os.environ["FAD_ENDPOINTS_ENABLED"] = "true"
    base = base_folder()
    set_up(base)
    with ComfyServer(host_folder(), base) as server:
        endpoint, bare = asyncio.run(compare(server.base_url, times))
    show("endpoint", endpoint)
    show("/prompt", bare)
    over = statistics.median(endpoint) - statistics.median(bare)
    print(f"overhead   median {over * 1000:6.1f} ms (bar: under {BAR_MS:g} ms)")
    return 0 if over * 1000 < BAR_MS else 1


if __name__ == "__main__":
    sys.exit(main())
