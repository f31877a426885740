"""The sound of a video file over the same span as its frames, decoded only when something reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import cached_property
from typing import Any

import av
import av.error
import numpy as np
import torch
from torch import Tensor

from .container import File, open_container, packets

GAP = Fraction(1, 20)  # seconds: smaller jumps in the time stamps are rounding, not silence
LEAD = Fraction(1, 5)  # seconds decoded before the start, so that the decoder has settled
FALLBACK_RATE = 44100


class SourceAudio(Mapping[str, Any]):
    """The host's AUDIO value {waveform [1, channels, samples], sample_rate}, decoded at the first access.

    Exactly `seconds` long; silent where the file has no sound.
    """

    def __init__(self, file: File, name: str, origin: Fraction, start: Fraction, seconds: Fraction) -> None:
        self._file, self._name = file, name
        self._begin, self._seconds = origin + start, seconds

    def __getitem__(self, key: str) -> Any:
        return self._decoded[key]

    def __iter__(self) -> Iterator[str]:
        return iter(("waveform", "sample_rate"))

    def __len__(self) -> int:
        return 2

    @cached_property
    def _decoded(self) -> dict[str, Any]:
        with open_container(self._file, self._name) as container:
            return _decode(container, self._begin, self._seconds)


def audio_stream(container: av.container.InputContainer) -> av.AudioStream | None:
    """The default sound track that can be decoded, else the first one, else None."""
    tracks = [stream for stream in container.streams.audio if stream.codec_context is not None]
    return next(
        (s for s in tracks if s.disposition & av.stream.Disposition.default), tracks[0] if tracks else None
    )


def trimmed_audio(audio: Mapping[str, Any], start: Fraction, seconds: Fraction) -> dict[str, Any]:
    """A span of an AUDIO value; shorter where the sound ends before."""
    rate = int(audio["sample_rate"])
    first, last = round(start * rate), round((start + seconds) * rate)
    return {"waveform": audio["waveform"][..., first:last], "sample_rate": rate}


def _decode(container: av.container.InputContainer, begin: Fraction, seconds: Fraction) -> dict[str, Any]:
    stream = audio_stream(container)
    if begin > 1:
        container.seek(int((begin - LEAD) / stream.time_base), stream=stream, backward=True)
    track = _Track(begin, seconds)
    for packet in packets(container, stream):
        for frame in _frames(stream, packet):
            track.add(frame)
        if track.full:
            break
    return {"waveform": track.waveform(), "sample_rate": track.rate}


def _frames(stream: av.AudioStream, packet: av.Packet) -> list[av.AudioFrame]:
    try:
        return stream.codec_context.decode(packet)
    except av.error.FFmpegError:
        return []


class _Track:
    """Samples laid out by time; the first decoded frame decides rate and channels."""

    def __init__(self, begin: Fraction, seconds: Fraction) -> None:
        self.begin, self.seconds = begin, seconds
        self.rate, self.next = FALLBACK_RATE, 0
        self.samples: np.ndarray | None = None
        self.full = False
        self._form: tuple[str, str, int] | None = None
        self._target: tuple[av.AudioLayout, int] | None = None

    def add(self, frame: av.AudioFrame) -> None:
        """Lays a decoded frame at its place, in the channels and rate of the first one."""
        form = frame.format.name, frame.layout.name, frame.sample_rate
        self._target = self._target or (frame.layout, frame.sample_rate)
        if form != self._form:  # broadcasts change it midway
            self._form, self._resampler = form, av.AudioResampler("fltp", *self._target)
        for part in self._resampler.resample(frame):
            self._add(part)

    def _add(self, frame: av.AudioFrame) -> None:
        values = frame.to_ndarray()
        if self.samples is None:
            self.rate = frame.sample_rate
            self.samples = np.zeros((values.shape[0], round(self.seconds * self.rate)), np.float32)
            self.next = self._position(frame) or 0
        position = self._position(frame)
        if position is not None and abs(position - self.next) > GAP * self.rate:
            self.next = position
        self._place(values, self.next)
        self.next += values.shape[1]
        self.full = self.next >= self.samples.shape[1]

    def waveform(self) -> Tensor:
        if self.samples is None:
            self.samples = np.zeros((2, round(self.seconds * self.rate)), np.float32)
        return torch.from_numpy(self.samples).unsqueeze(0)

    def _position(self, frame: av.AudioFrame) -> int | None:
        return None if frame.pts is None else round((frame.pts * frame.time_base - self.begin) * self.rate)

    def _place(self, values: np.ndarray, position: int) -> None:
        first, last = max(0, -position), min(values.shape[1], self.samples.shape[1] - position)
        if first < last:
            self.samples[:, position + first : position + last] = values[:, first:last]
