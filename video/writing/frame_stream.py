"""Frames written in one thread while another is still making the later ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Thread
from typing import TypeVar

import torch
from torch import Tensor

from ..frames import Progress

PATIENCE = 0.1  # seconds between two looks at the cancel button while the other thread is busy
Result = TypeVar("Result")
Shape = tuple[int, ...]


class Stopped(RuntimeError):
    """Raised in the writing thread when no more frames come."""


class FrameStream:
    """Images [n, height, width, channels] that arrive in chunks; each is read once, in order, and its reader waits for it."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.read = 0
        self._stopped = False
        self._waiting: Queue[Tensor | None] = Queue(maxsize=1)
        self._frames: deque[Tensor] = deque()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> Tensor:
        if index != self.read:
            raise IndexError(f"Frame {index} was asked for where frame {self.read} comes next.")
        while not self._frames:
            chunk = self._waiting.get()
            if chunk is None:
                raise Stopped(f"Only {self.read} of {len(self)} frames came.")
            self._frames.extend(chunk)
        self.read += 1
        return self._frames.popleft()

    def offer(self, chunk: Tensor | None) -> bool:
        """Hands over the next frames, None after the last; False while the previous ones are still waiting."""
        try:
            self._waiting.put(chunk, timeout=PATIENCE)
        except Full:
            return False
        return True

    def check(self, done: int, total: int) -> None:
        """A `progress` for the writer that ends it once the stream is stopped."""
        if self._stopped:
            raise Stopped

    def stop(self) -> None:
        """Ends the writer, even one that is waiting for a frame."""
        self._stopped = True
        with suppress(Empty):
            self._waiting.get_nowait()
        self._waiting.put(None)


def in_chunks(pieces: Sequence[Tensor], decode: Callable[[Tensor], Tensor]) -> tuple[Shape, Iterator[Tensor]]:
    """The shape [n, height, width, channels] of everything that `decode` makes of the pieces, and the images piece by piece.

    Each latent gives as many images as those of the first piece, which is decoded at once to learn the shape.
    """
    first = decode(pieces[0])
    count = len(first) * sum(map(len, pieces)) // len(pieces[0])
    held = [first]  # until it is asked for
    return (count, *first.shape[1:]), (held.pop() if held else decode(piece) for piece in pieces)


def write_behind(
    shape: Shape, chunks: Iterator[Tensor], write: Callable[[FrameStream], Result], progress: Progress
) -> Result:
    """Runs `write` in a thread of its own while this one makes the chunks.

    At most three chunks are in memory: the one being made, one that waits and the one being written.
    `progress(done, total)` may raise to cancel. An error on either side stops both before it is raised here.
    """
    stream, ended = FrameStream(shape), False
    chunk: Tensor | None = next(chunks)
    written: Future[Result] = Future()

    def run() -> None:  # without torch's inference mode, which is each thread's own
        try:
            written.set_result(write(stream))
        except BaseException as error:
            written.set_exception(error)

    # A daemon, like the host's own threads: on exit, Python would wait for any other, here for a whole clip.
    writer = Thread(target=run, name="video writer", daemon=True)
    writer.start()
    try:
        while not written.done():
            progress(stream.read, len(stream))
            if ended:
                wait([written], PATIENCE)
            elif stream.offer(chunk):
                ended, chunk = chunk is None, next(chunks, None)
    finally:
        stream.stop()
        writer.join()
    return written.result()


def collected(shape: Shape, chunks: Iterator[Tensor], progress: Progress) -> Tensor:
    """All images in one tensor, for formats that need frames more than once. `progress` may raise to cancel."""
    images, done = torch.empty(0), 0
    for chunk in chunks:
        if not done:
            images = torch.empty(shape, dtype=chunk.dtype, device=chunk.device)
        images[done : done + len(chunk)] = chunk
        done += len(chunk)
        progress(done, len(images))
    if done != shape[0]:
        raise RuntimeError(f"Only {done} of {shape[0]} frames came.")
    return images
