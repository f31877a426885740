"""An order in which the place of one among thousands is known at once."""

from __future__ import annotations

import bisect
from collections.abc import Iterator

from .request import Request


class Places:
    """Requests in the order of their places."""

    def __init__(self) -> None:
        self._places: list[tuple[bool, int]] = []
        self._requests: dict[tuple[bool, int], Request] = {}

    def add(self, request: Request) -> None:
        if request.place not in self._requests:
            bisect.insort(self._places, request.place)
            self._requests[request.place] = request

    def discard(self, request: Request) -> None:
        if self._requests.pop(request.place, None):
            del self._places[bisect.bisect_left(self._places, request.place)]

    def ahead_of(self, request: Request) -> int:
        return bisect.bisect_left(self._places, request.place)

    def first(self, most: int) -> list[Request]:
        return [self._requests[place] for place in self._places[:most]]

    def __contains__(self, request: Request) -> bool:
        return request.place in self._requests

    def __iter__(self) -> Iterator[Request]:
        return iter(list(self._requests.values()))

    def __len__(self) -> int:
        return len(self._places)
