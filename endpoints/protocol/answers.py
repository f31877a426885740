"""What clients are told about a request: its status, its log, its result and its webhook's message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

from typing_extensions import TypedDict

from .failure import Failure
from .schemas import APP

ROOT = "/fal"
MOST_LINES = 1000
Body = dict[str, Any]
Line = dict[str, str]  # message, level, source, timestamp


class Video(TypedDict):
    """A written video and the seed it was made from. worker: URL of the ComfyUI that has it; "" if it lies here."""

    filename: str
    subfolder: str
    type: str
    content_type: str
    file_size: int
    worker: str
    seed: int


@dataclass(frozen=True)
class Address:
    """Where clients reach us, without a trailing slash. has_view: the host's /view is at the same address."""

    base: str
    has_view: bool = False

    def request_urls(self, request_id: str) -> dict[str, str]:
        """They hold only the owner and alias of the endpoint's id, as the clients build them."""
        url = f"{self.base}{ROOT}/queue/{APP}/requests/{request_id}"
        return {"response_url": url, "status_url": f"{url}/status", "cancel_url": f"{url}/cancel"}

    def file_url(self, request_id: str, name: str) -> str:
        """Ends in the file's name, as clients expect of a download; the host's /view?filename=... does not."""
        return f"{self.base}{ROOT}/files/{request_id}/{quote(name)}"


@dataclass
class Log:
    """The log of a request, in the service's lines."""

    lines: list[Line] = field(default_factory=list)

    def say(self, message: str, level: str = "INFO") -> None:
        if len(self.lines) < MOST_LINES:
            time = datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
            line = {"message": message, "level": level, "source": "USER", "timestamp": time}
            self.lines.append(line)


def queued_body(request_id: str, position: int, address: Address) -> Body:
    ids = {"request_id": request_id, "gateway_request_id": request_id}
    return {"status": "IN_QUEUE", **ids, **address.request_urls(request_id), "queue_position": position}


def status_body(
    request_id: str, address: Address, lines: Sequence[Line], position: int | None = None
) -> Body:
    """Of a request that has not ended. `logs` is always present: the clients read it without checking.

    position: how many are ahead of it; None once it runs.
    """
    state = (
        {"status": "IN_PROGRESS"} if position is None else {"status": "IN_QUEUE", "queue_position": position}
    )
    return {"request_id": request_id, **address.request_urls(request_id), **state, "logs": list(lines)}


def completed_body(
    request_id: str, address: Address, lines: Sequence[Line], seconds: float | None, failure: Failure | None
) -> Body:
    body = status_body(request_id, address, lines)
    body |= {"status": "COMPLETED", "metrics": {"inference_time": seconds}}
    return body | ({"error": failure.message, "error_type": failure.error_type} if failure else {})


def result_body(request_id: str, file: Mapping[str, Any], address: Address) -> Body:
    video = {
        "url": address.file_url(request_id, file["filename"]),
        "content_type": file["content_type"],
        "file_name": file["filename"],
        "file_size": file["file_size"],
    }
    return {"video": video, "seed": file["seed"]}


def webhook_body(request_id: str, address: Address, result: Video | None, failure: Failure | None) -> Body:
    ids = {"request_id": request_id, "gateway_request_id": request_id}
    if result is not None:
        return {**ids, "status": "OK", "payload": result_body(request_id, result, address)}
    assert failure is not None
    return {**ids, "status": "ERROR", "error": failure.message, "payload": failure.body}
