"""Frames written while later ones are being made: the same file, few frames in memory, a clean end whatever happens."""

from __future__ import annotations

import os
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from clips import barcode, numbers
from test_export import load
from test_failed_exports import resource, room_for
from torch import Tensor

from fast_animatediff.video import (
    FORMATS,
    Export,
    FrameStream,
    collected,
    export_video,
    in_chunks,
    write_behind,
)

EIGHT = Export(Fraction(8))


class Decoder:
    """Stands for a VAE: a latent is its frame's number. Counts calls and the decoded frames that are in memory."""

    def __init__(self, before: Callable[[int], None] = lambda call: None) -> None:
        self.calls = self.alive = self.most = 0
        self._before, self._lock = before, threading.Lock()

    def __call__(self, latents: Tensor) -> Tensor:
        self._before(self.calls)
        self.calls += 1
        frames = np.stack([barcode(int(number)) for number in latents]).astype(np.float32) / 255
        self._count(len(frames))
        weakref.finalize(
            frames, self._count, -len(frames)
        )  # torch holds the array as long as its tensor lives
        return torch.from_numpy(frames)

    def _count(self, frames: int) -> None:
        with self._lock:
            self.alive += frames
            self.most = max(self.most, self.alive)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def ignore(done: int, total: int) -> None:
    pass


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0)]


def save(
    folder: Path,
    count: int,
    decoder: Callable[[Tensor], Tensor],
    at_once: int = 4,
    settings: Export = EIGHT,
    progress: Callable[[int, int], None] = ignore,
) -> Path:
    shape, chunks = in_chunks(torch.arange(count).split(at_once), decoder)
    return write_behind(
        shape,
        chunks,
        lambda frames: export_video(frames, folder, "clip", 1, settings, progress=frames.check),
        progress,
    )


@pytest.mark.parametrize("format", ["mp4", "webm"])
@pytest.mark.parametrize("at_once", [1, 4, 32])
def test_the_file_is_the_one_that_the_frames_in_memory_give(tmp_path, format, at_once) -> None:
    settings = Export(Fraction(8), format)
    path = save(tmp_path, 18, Decoder(), at_once, settings)
    assert numbers(load(path).images[:, :16, :80]) == list(range(18))
    whole = export_video(Decoder()(torch.arange(18)), tmp_path, "whole", 1, settings)
    assert packets(path) == packets(whole)
    assert format == "webm" or path.read_bytes() == whole.read_bytes()  # a webm has a random id


def test_frames_that_are_needed_again_are_not_streamed() -> None:
    assert [format for format in FORMATS if Export(Fraction(8), format).reads_once] == ["mp4", "webm"]
    assert not any(Export(Fraction(8), format, ping_pong=True).reads_once for format in FORMATS)


def test_frames_are_written_before_the_last_ones_are_decoded(tmp_path) -> None:
    written = threading.Event()

    def last_one_waits(call: int) -> None:
        assert call < 3 or written.wait(20)

    def tell(done: int, total: int) -> None:
        if done:  # of the frames before, all are in the encoder
            written.set()

    shape, chunks = in_chunks(torch.arange(16).split(4), Decoder(last_one_waits))
    write_behind(
        shape, chunks, lambda frames: export_video(frames, tmp_path, "clip", 1, EIGHT, progress=tell), ignore
    )


@pytest.mark.parametrize("count", [16, 240])
def test_memory_holds_as_few_frames_of_a_long_clip_as_of_a_short_one(tmp_path, count) -> None:
    decoder = Decoder()
    save(tmp_path, count, decoder, at_once=4)
    assert decoder.calls == count / 4
    assert 4 <= decoder.most <= 12 and decoder.alive == 0


def test_a_decoder_that_is_ahead_waits_for_the_writer() -> None:
    decoder = Decoder()

    def write_slowly(frames: FrameStream) -> int:
        for index in range(len(frames)):
            time.sleep(0.02)
            frames[index]
            assert decoder.calls <= index // 2 + 3
        return decoder.most

    shape, chunks = in_chunks(torch.arange(20).split(2), decoder)
    assert write_behind(shape, chunks, write_slowly, ignore) == 6


def test_the_error_of_the_decoder_is_the_one_that_is_raised(tmp_path) -> None:
    def fail(call: int) -> None:
        if call == 3:
            time.sleep(0.2)  # the writer waits for frames by now
            raise OSError("the weights can't be read")

    with pytest.raises(OSError, match=r"^the weights can't be read$"):
        save(tmp_path, 40, Decoder(fail))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(resource is None, reason="needs resource limits")
def test_a_disk_that_fills_up_ends_the_decoding_too(tmp_path) -> None:
    made = []

    def noise(latents: Tensor) -> Tensor:
        made.extend(latents)
        return torch.rand(len(latents), 64, 64, 3)

    with room_for(20_000), pytest.raises(OSError, match=r"clip_00001_\.mp4 could not be written"):
        save(tmp_path, 400, noise)
    assert len(made) < 200 and os.listdir(tmp_path) == []


def test_a_frame_that_is_not_finite_is_named_and_ends_the_decoding(tmp_path) -> None:
    decoder = Decoder()

    def broken(latents: Tensor) -> Tensor:
        frames = decoder(latents)
        frames[latents == 6] = float("nan")
        return frames

    with pytest.raises(ValueError, match="Frame 6 holds NaN"):
        save(tmp_path, 400, broken)
    assert decoder.calls < 10 and os.listdir(tmp_path) == []


def test_a_folder_that_is_removed_midway_is_an_error_without_its_path(tmp_path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    with pytest.raises(OSError, match=r"clip_00001_\.mp4 could not be written") as caught:
        save(folder, 12, Decoder(lambda call: call == 2 and shutil.rmtree(folder)))
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("frame", [0, 5])
def test_a_cancelled_export_leaves_nothing(tmp_path, frame) -> None:
    decoder = Decoder()

    def cancel(done: int, total: int) -> None:
        if done >= frame:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 16, decoder, progress=cancel)
    assert os.listdir(tmp_path) == [] and decoder.calls <= 4


def test_a_cancel_while_the_encoder_finishes_leaves_nothing(tmp_path) -> None:
    def write(frames: FrameStream) -> Path:
        def linger(done: int, total: int) -> None:
            deadline = time.monotonic() + 20
            while done == total and time.monotonic() < deadline:  # all is encoded, the file has no name yet
                frames.check(done, total)
                time.sleep(0.01)

        return export_video(frames, tmp_path, "clip", 1, EIGHT, progress=linger)

    def cancel(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_behind(*in_chunks(torch.arange(8).split(4), Decoder()), write, cancel)
    assert os.listdir(tmp_path) == []


def test_progress_counts_the_frames_that_the_writer_has(tmp_path) -> None:
    seen = []
    save(tmp_path, 16, Decoder(), progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen) and seen[0] == (0, 16) and seen[-1][1] == 16


def test_frames_of_the_hosts_inference_mode_can_be_written(tmp_path) -> None:
    with torch.inference_mode():
        path = save(tmp_path, 6, Decoder())
    assert numbers(load(path).images[:, :16, :80]) == list(range(6))


def test_too_few_frames_are_an_error_and_no_endless_wait(tmp_path) -> None:
    shape, chunks = in_chunks(torch.arange(8).split(4), lambda latents: Decoder()(latents)[: 4 - latents[0]])
    with pytest.raises(RuntimeError, match="Only 4 of 8 frames came"):
        write_behind(shape, chunks, lambda frames: export_video(frames, tmp_path, "clip", 1, EIGHT), ignore)
    assert os.listdir(tmp_path) == []


def test_too_few_frames_are_an_error_where_all_are_kept() -> None:
    with pytest.raises(RuntimeError, match="Only 6 of 8 frames came"):
        collected((8, 1, 1, 3), iter([torch.zeros(4, 1, 1, 3), torch.zeros(2, 1, 1, 3)]), ignore)


def test_leaving_the_program_does_not_wait_for_the_writer() -> None:
    """Python waits for every thread that is no daemon, which would be the rest of a clip."""
    chunks = iter([torch.zeros(4, 1, 1, 3)])
    assert write_behind((4, 1, 1, 3), chunks, lambda frames: threading.current_thread().daemon, ignore)


def test_frames_are_read_once_and_in_order() -> None:
    stream = FrameStream((4, 1, 1, 3))
    stream.offer(torch.zeros(4, 1, 1, 3))
    stream[0]
    for index in (0, 2):
        with pytest.raises(IndexError, match=f"Frame {index} was asked for where frame 1 comes next"):
            stream[index]


def test_all_frames_are_kept_for_formats_that_need_them_again() -> None:
    decoder, shares = Decoder(), []
    images = collected(*in_chunks(torch.arange(10).split(4), decoder), lambda *share: shares.append(share))
    assert numbers(images) == list(range(10)) and shares == [(4, 10), (8, 10), (10, 10)]
    assert decoder.most <= 8


def test_latents_that_are_several_frames_each_make_a_longer_clip(tmp_path) -> None:
    def three(latents: Tensor) -> Tensor:
        return Decoder()((latents[:, None] * 3 + torch.arange(3)).flatten())

    assert numbers(load(save(tmp_path, 5, three, at_once=2)).images[:, :16, :80]) == list(range(15))
