"""One ComfyUI over its public HTTP API: prompts in, progress and files out."""

from __future__ import annotations

import asyncio
import io
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import aiohttp

from ..protocol.failure import TOO_LARGE, Refused, without_paths
from ..protocol.spelling import identity

Answer = TypeVar("Answer")
Prompt = dict[str, dict[str, Any]]
ANSWER_SECONDS = 60.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # between attempts to reach one that is away
PING_SECONDS = 20.0
BY_PROXY = (502, 503, 504)  # in front of a ComfyUI that is away
INPUTS = "fast-animatediff"  # subfolder of its temp folder
GONE = (aiohttp.ClientError, asyncio.TimeoutError, ConnectionError)


class ComfyUIGone(ConnectionError):
    """The ComfyUI can't be reached, or went away while it was asked."""


class PromptLost(RuntimeError):
    """The ComfyUI no longer has the prompt: it was restarted, or somebody took the prompt from its queue."""


class PromptRefused(RuntimeError):
    """The ComfyUI found the prompt invalid; nothing was run. The message names nodes and values."""


class NoSpace(PromptRefused):
    """The ComfyUI can't store a file: its disk is full, or its folder can't be written."""


@dataclass(frozen=True)
class Event:
    """Progress of a prompt: a node began (total 0) or finished a step of total; node_id None: it may have ended."""

    node_id: str | None
    step: int = 0
    total: int = 0


class ComfyUI:
    """A ComfyUI at `url`. `start` listens to its websocket until `close`; `up` is set while it can be given prompts.

    ssl: as aiohttp takes it, for a ComfyUI with a certificate of its own. runs_prompts: tells whether it still runs any,
    where that can be known. All requests raise ComfyUIGone if it does not answer for answer_seconds.
    """

    def __init__(
        self,
        url: str,
        ssl: aiohttp.Fingerprint | bool = True,
        runs_prompts: Callable[[], bool] = lambda: True,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self.url = url.rstrip("/")
        self.queued = 0  # prompts in its queue, whoever sent them
        self.up, self._lost = asyncio.Event(), asyncio.Event()
        self.on_change: Callable[[], None] = lambda: None  # called on every change of `up`
        self.runs_prompts = runs_prompts
        self._ssl, self._seconds = ssl, answer_seconds
        self._client_id = ""
        self._watched: dict[str, asyncio.Queue[Event]] = {}
        self._session: aiohttp.ClientSession | None = None
        self._listening: asyncio.Task[None] | None = None

    def start(self, sender: str) -> None:
        """sender: whose prompts these are. The same one hears of their progress, also after a restart; nobody else does."""
        # One for each name, in case two of them lead to the same ComfyUI: it talks to one connection of a client.
        self._client_id = uuid.uuid5(uuid.NAMESPACE_URL, f"{sender} {identity(self.url)}").hex
        timeout = aiohttp.ClientTimeout(total=self._seconds, connect=min(5.0, self._seconds))
        connector = aiohttp.TCPConnector(ssl=self._ssl, limit=0)
        self._session = aiohttp.ClientSession(timeout=timeout, connector=connector)
        self._listening = asyncio.create_task(self._listen())

    def mark_unreachable(self) -> None:
        """For one that did not answer: it is up again once its websocket has reconnected."""
        if self._listening:
            self._listening.cancel()
        self._listening = asyncio.create_task(self._listen())
        self._turn(False)

    async def close(self) -> None:
        if self._listening:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        if self._session:
            await self._session.close()
            self._session = None

    # ---- prompts

    async def submit(self, prompt: Prompt, prompt_id: str) -> None:
        """Queues a prompt under an id of ours, a UUID in canonical form. Errors: PromptRefused."""
        body = {"prompt": prompt, "client_id": self._client_id, "prompt_id": prompt_id}
        async with self._request("POST", "/prompt", json=body) as answer:
            if answer.status != 200:
                raise PromptRefused(without_paths(describe_refusal(await read_json(answer))))

    async def job(self, prompt_id: str) -> dict[str, Any] | None:
        """What it knows about a prompt: `status` (pending, in_progress, completed, failed, cancelled), `outputs` and
        `execution_error`; None if it knows nothing."""
        async with self._request("GET", f"/api/jobs/{prompt_id}") as answer:
            if answer.status == 404:
                return None
            return await read_json(answer, "status")

    async def cancel(self, prompt_id: str) -> None:
        """Removes a prompt from the queue or interrupts it, and no other; does nothing if it has ended."""
        async with self._request("POST", f"/api/jobs/{prompt_id}/cancel"):
            pass

    @asynccontextmanager
    async def watch(self, prompt_id: str) -> AsyncIterator[asyncio.Queue[Event]]:
        """The events of a prompt while the block runs, with one whose node_id is None after every lost connection."""
        events: asyncio.Queue[Event] = asyncio.Queue()
        self._watched[prompt_id] = events
        try:
            yield events
        finally:
            del self._watched[prompt_id]

    # ---- files

    async def lend(self, path: Path, lent: str) -> str:
        """Copies a file into its temp folder, under a name from `lent_name`; returns it as nodes that load files take it.

        Errors: Refused for a file that it finds too large; PromptRefused, NoSpace.
        """
        with await asyncio.to_thread(path.open, "rb") as file:
            # aiohttp sets no limit while it sends; that nobody reads any more is seen by the websocket.
            gone = f"{self.url} went away while it was sent a video."
            stored = await unless(self._lost, self._store(file, lent, "temp"), lambda: ComfyUIGone(gone))
        return f"{stored} [temp]"

    async def empty(self, file: str, kind: str = "temp") -> None:
        """Empties a file in its temp or output folder. It can't be deleted; the host does that to temp when it starts."""
        await self._store(io.BytesIO(), file, kind)

    async def _store(self, file: BinaryIO, name: str, kind: str) -> str:
        subfolder, _, filename = name.rpartition("/")
        form = aiohttp.FormData()
        form.add_field("image", file, filename=filename, content_type="application/octet-stream")
        for field, value in (("type", kind), ("subfolder", subfolder), ("overwrite", "true")):
            form.add_field(field, value)
        timeout = aiohttp.ClientTimeout(total=None, connect=5.0, sock_read=self._seconds)
        async with self._request("POST", "/upload/image", data=form, timeout=timeout) as answer:
            if answer.status == 413:
                raise Refused(TOO_LARGE)
            if answer.status >= 500:
                raise NoSpace("ComfyUI can't store the video, perhaps because its disk is full")
            if answer.status != 200:
                raise PromptRefused(f"ComfyUI refused the video: {answer.status} {answer.reason}")
            stored = await read_json(answer, "subfolder", "name")
        return f"{stored['subfolder']}/{stored['name']}"

    async def describe(self, file: Mapping[str, Any]) -> tuple[str, int] | None:
        """Content type and size in bytes of a file that it can show; None if there is no such file."""
        async with self._request("HEAD", "/view", params=place(file)) as answer:
            if answer.status != 200:
                return None
            return answer.content_type, answer.content_length or 0

    @asynccontextmanager
    async def open(
        self, file: Mapping[str, Any], headers: dict[str, str], method: str = "GET"
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Its answer with the content of a file, to be read in pieces."""
        timeout = aiohttp.ClientTimeout(total=None, connect=5.0, sock_read=self._seconds)
        async with self._request(
            method, "/view", params=place(file), headers=headers, timeout=timeout
        ) as answer:
            yield answer

    @asynccontextmanager
    async def _request(self, method: str, path: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            raise ComfyUIGone(f"{self.url} is not connected.")
        try:
            async with self._session.request(method, self.url + path, **options) as answer:
                if answer.status in BY_PROXY:
                    raise ComfyUIGone(f"A proxy answers {answer.status} for {self.url}.")
                yield answer
        except GONE as error:
            raise ComfyUIGone(f"{self.url} does not answer: {error}") from error

    # ---- its websocket

    async def _listen(self) -> None:
        pause, url = FIRST_PAUSE, f"{self.url}/ws?clientId={self._client_id}"
        heartbeat = min(PING_SECONDS, self._seconds / 2)
        while self._session:
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            try:
                async with self._session.ws_connect(url, max_msg_size=0, heartbeat=heartbeat) as socket:
                    pause = FIRST_PAUSE
                    async for message in socket:
                        if message.type == aiohttp.WSMsgType.TEXT:  # previews are binary
                            self._take(json.loads(message.data))
            except (*GONE, ValueError, LookupError, TypeError, AttributeError):
                pass  # the last four: something other than ComfyUI answers there
            self._turn(False)

    def _turn(self, up: bool) -> None:
        """Wakes everybody who watches a prompt: what happened without a connection has to be asked for."""
        if up != self.up.is_set():
            self.up.set() if up else self.up.clear()
            self._lost.clear() if up else self._lost.set()
            self.on_change()
            for events in self._watched.values():
                events.put_nowait(Event(None))

    def _take(self, message: dict[str, Any]) -> None:
        kind, data = message.get("type"), message.get("data") or {}
        if kind == "status":
            self.queued = data["status"]["exec_info"]["queue_remaining"]
            self._turn(True)  # not before: it is told at once to those who connect
            return
        events = self._watched.get(data.get("prompt_id", ""))
        if events is None:
            return
        if kind == "progress":
            events.put_nowait(Event(data["node"], data["value"], data["max"]))
        elif kind == "executing":  # with no node, unlike execution_success: after the job can be asked for
            events.put_nowait(Event(data["node"]))


async def unless(event: asyncio.Event, work: Awaitable[Answer], error: Callable[[], Exception]) -> Answer:
    """The result of the work; if the event comes first, the work is cancelled and the error raised."""
    task, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise error()
        return task.result()
    finally:
        task.cancel()
        waiting.cancel()
        await asyncio.gather(task, waiting, return_exceptions=True)


def lent_name(prompt_id: str, path: Path) -> str:
    return f"{INPUTS}/{prompt_id}/{path.name}"


def place(file: Mapping[str, Any]) -> dict[str, str]:
    return {name: file[name] for name in ("filename", "subfolder", "type")}


async def read_json(answer: aiohttp.ClientResponse, *names: str) -> dict[str, Any]:
    """An object with these names. Errors: ComfyUIGone, as something else answers there."""
    try:
        found = await answer.json(content_type=None)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not found.keys() >= set(names):
        raise ComfyUIGone(
            f"{answer.url.path} answered {answer.status} with something that ComfyUI does not say."
        )
    return found


def describe_refusal(body: dict[str, Any]) -> str:
    """The answer to an invalid prompt, as lines that name the nodes."""
    error = body.get("error") or {}
    if not isinstance(error, dict):
        return str(error)
    lines = [": ".join(part for part in (error.get("message"), error.get("details")) if part)]
    for node_id, node in (body.get("node_errors") or {}).items():
        lines += [
            f"{node['class_type']} (node {node_id}): {problem['message']}: {problem['details']}"
            for problem in node["errors"]
        ]
    return "\n".join(lines)
