"""What went wrong with a request, in the two shapes that the service's clients read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

WORD = r"[^\\/\s'\":<>|]+"  # of a file's name; folders may have several, with spaces between
PATHS = re.compile(rf"(?<![\w:/\\.])(?:[A-Za-z]:)?(?:[\\/]{WORD}(?: {WORD})*)+[\\/]((?:{WORD})?)")
LONGEST = 2000  # characters of a message


@dataclass(frozen=True)
class Failure:
    """A request's bad end.

    status: the HTTP status of the result. detail: a sentence (errors of the service: `error_type` says which kind), or
    FastAPI's list of problems (errors of the input: each has loc, msg, type).
    """

    status: int
    detail: str | list[dict[str, Any]]
    error_type: str | None = None

    @property
    def message(self) -> str:
        if isinstance(self.detail, str):
            return self.detail
        return "; ".join(str(problem.get("msg", "")) for problem in self.detail)

    @property
    def body(self) -> dict[str, Any]:
        return {"detail": self.detail} | ({"error_type": self.error_type} if self.error_type else {})

    @property
    def headers(self) -> dict[str, str]:
        """A repeated request meets the same fate, except where the time or the machine was the reason."""
        kind = {"X-Fal-Error-Type": self.error_type} if self.error_type else {}
        if self.error_type == "request_timeout":
            kind["X-Fal-Request-Timeout-Type"] = "user"
        return {"X-Fal-Retryable": "true" if self.status == 503 else "false", **kind}


class Refused(Exception):
    """A request that ends, or is not accepted, because of a failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def refuse(status: int, detail: str, error_type: str | None = None) -> Refused:
    return Refused(Failure(status, detail, error_type))


def wrong_field(field: str, message: str, kind: str, at: str = "body") -> Failure:
    """One problem with one field, as validation would report it."""
    return Failure(422, [{"loc": [at, field], "msg": message, "type": kind}])


def without_paths(text: str) -> str:
    """A message of the host without the folders of its machine: of every path only the last name is left."""
    return PATHS.sub(lambda path: path.group(1) or "...", text.strip())[:LONGEST]


CANCELLED = Failure(499, "The request was cancelled by the client.", "client_cancelled")
CLIENT_GONE = Failure(
    499, "The client closed the connection before the result was there.", "client_disconnected"
)
TOO_LATE = Failure(504, "The request did not start within the time that it gave.", "request_timeout")
MACHINE_LOST = Failure(
    503, "ComfyUI went away each time while it worked on this request.", "runner_disconnected"
)
MISSING_VIDEO = Failure(500, "ComfyUI ended without a video that can be read.", "runner_server_error")
INTERRUPTED = Failure(500, "The run was interrupted in ComfyUI.", "runner_server_error")
DAMAGED = Failure(500, "What was stored of this request is damaged. Send it again.", "internal_error")
STALLED = Failure(503, "ComfyUI stopped working on this request and gave no reason.", "runner_disconnected")
VIDEO_AWAY = Failure(
    503, "The ComfyUI that has this video does not answer. Try again later.", "runner_connection_error"
)
