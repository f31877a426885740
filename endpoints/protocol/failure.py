"""Failures of requests, in the two shapes that the service's clients read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

WORD = r"[^\\/\s'\":<>|]+"  # of a file name; the name of a folder may hold several, separated by spaces
PATHS = re.compile(rf"(?<![\w:/\\.])(?:[A-Za-z]:)?(?:[\\/]{WORD}(?: {WORD})*)+[\\/]((?:{WORD})?)")
LONGEST = 2000  # characters of a message


@dataclass(frozen=True)
class Failure:
    """Why a request failed.

    status: the HTTP status of the result. detail: a sentence, with `error_type` naming the kind, for an error of the
    service; FastAPI's list of problems (each with loc, msg, type) for an error of the input.
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
        """Repeating the request only helps if the machine was the reason."""
        kind = {"X-Fal-Error-Type": self.error_type} if self.error_type else {}
        if self.error_type == "request_timeout":
            kind["X-Fal-Request-Timeout-Type"] = "user"
        return {"X-Fal-Retryable": "true" if self.status == 503 else "false", **kind}


class Refused(Exception):
    """Raised to end a request, or not to accept it, with a failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def refuse(status: int, detail: str, error_type: str | None = None) -> Refused:
    return Refused(Failure(status, detail, error_type))


def wrong_field(field: str, message: str, kind: str, at: str = "body", **context: int) -> Failure:
    """A failure with one problem in one field, as validation reports it."""
    problem = {"loc": [at, field], "msg": message, "type": kind}
    return Failure(422, [problem | ({"ctx": context} if context else {})])


def without_paths(text: str) -> str:
    """A message of the host with every path reduced to its last name, so that no folder of the machine is shown."""
    return PATHS.sub(lambda path: path.group(1) or "...", text.strip())[:LONGEST]


CANCELLED = Failure(499, "The request was cancelled by the client.", "client_cancelled")
CLIENT_GONE = Failure(
    499, "The client closed the connection before the result was ready.", "client_disconnected"
)
TOO_LATE = Failure(504, "The request did not start within its timeout.", "request_timeout")
MACHINE_LOST = Failure(
    503, "ComfyUI stopped answering on every attempt to run this request.", "runner_disconnected"
)
MISSING_VIDEO = Failure(500, "ComfyUI finished without a readable video.", "runner_server_error")
INTERRUPTED = Failure(500, "The run was interrupted in ComfyUI.", "runner_server_error")
DAMAGED = Failure(500, "What was stored of this request is damaged. Send it again.", "internal_error")
NOBODY_ANSWERS = Failure(503, "No ComfyUI answers at the moment. Try again later.", "runner_connection_error")
CLOSING = Failure(503, "The endpoints are shutting down. Try again later.", "runner_connection_error")
NO_SPACE = Failure(503, "ComfyUI can't store the video. Try again later.", "runner_server_error")
STALLED = Failure(503, "ComfyUI stopped working on this request and gave no reason.", "runner_disconnected")
TOO_LARGE = wrong_field(
    "video_url",
    "ComfyUI takes no file of this size. Send a smaller video, or start ComfyUI with a larger --max-upload-size.",
    "file_too_large",
)
VIDEO_AWAY = Failure(
    503, "The ComfyUI that has this video does not answer. Try again later.", "runner_connection_error"
)
