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

from .container import File, Limits, moving_pictures, open_container, pts_seconds, seek
from .packets import packets

GAP = Fraction(1, 20)  # seconds: smaller jumps in the time stamps are rounding, not silence
LEAD = Fraction(1, 5)  # seconds decoded before the start, so that the decoder has settled
SEEK_FROM = Fraction(1)  # seconds: nearer starts are reached faster by decoding
FALLBACK_RATE = 44100
# One plane for all channels: PyAV 18.1 reads past the end of the planes of a frame that has exactly eight.
SAMPLES = "flt"


class SourceAudio(Mapping[str, Any]):
    """The host's AUDIO value {waveform [1, channels, samples], sample_rate}, decoded at the first access.

    Exactly `seconds` long, with the channels of the file in its order; silent where the file has no sound.
    """

    def __init__(
        self, file: File, name: str, origin: Fraction, start: Fraction, seconds: Fraction, limits: Limits
    ) -> None:
        self._file, self._name, self._limits = file, name, limits
        self._begin, self._start, self._seconds = origin + start, start, seconds

    def __getitem__(self, key: str) -> Any:
        return self._decoded[key]

    def __iter__(self) -> Iterator[str]:
        return iter(("waveform", "sample_rate"))

    def __len__(self) -> int:
        return 2

    @cached_property
    def _decoded(self) -> dict[str, Any]:
        track = self._read(self._start > SEEK_FROM) or self._read(from_key_frame=False)
        assert track is not None  # only seeking can fail
        return {"waveform": track.waveform(), "sample_rate": track.rate}

    def _read(self, from_key_frame: bool) -> Track | None:
        """The track, read from shortly before its beginning or from that of the file; None where seeking fails."""
        track = Track(self._name, self._begin, self._seconds, self._limits)
        with open_container(self._file, self._name) as container:
            stream = audio_stream(container)
            if stream is None:
                return track
            pictures = moving_pictures(container) or stream  # whose places a file lists more often
            if from_key_frame and not seek(container, pictures, self._begin - LEAD):
                return None
            for packet in packets(container, stream):
                for frame in _frames(stream, packet):
                    if from_key_frame and track.is_empty and track.is_late(frame):
                        return None
                    track.add(frame)
                if track.full:
                    break
        return None if from_key_frame and track.is_empty else track


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


def _frames(stream: av.AudioStream, packet: av.Packet) -> list[av.AudioFrame]:
    try:
        return stream.codec_context.decode(packet)
    except av.error.FFmpegError:
        return []


class Track:
    """Samples laid out by time, from `begin` (the file's seconds) on; the first frame decides rate and channels."""

    def __init__(self, name: str, begin: Fraction, seconds: Fraction, limits: Limits) -> None:
        self.begin, self.seconds = begin, seconds
        self.rate, self.full = FALLBACK_RATE, False
        self._name, self._limits = name, limits
        self._samples: np.ndarray | None = None  # [samples, channels]
        self._next = 0  # samples
        self._form: tuple[str, str, int] | None = None
        self._target: tuple[av.AudioLayout, int] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been added."""
        return self._samples is None

    def is_late(self, frame: av.AudioFrame) -> bool:
        """Whether a frame begins after the track does."""
        time = pts_seconds(frame.pts, frame)
        return time is not None and time > self.begin + GAP

    def add(self, frame: av.AudioFrame) -> None:
        """Lays a decoded frame at its place, in the channels and rate of the first one."""
        form = frame.format.name, frame.layout.name, frame.sample_rate
        self._target = self._target or (frame.layout, frame.sample_rate)
        if form != self._form:  # broadcasts change it midway
            self._form, self._resampler = form, av.AudioResampler(SAMPLES, *self._target)
        try:
            parts = self._resampler.resample(frame)
        except (av.error.FFmpegError, ValueError):  # a layout that can't be mixed into the first one
            return
        for part in parts:
            self._add(part)

    def waveform(self) -> Tensor:
        """The samples [1, channels, samples], silent where nothing was added."""
        samples = self._silence(2) if self._samples is None else self._samples
        return torch.from_numpy(np.ascontiguousarray(samples.T)).unsqueeze(0)

    def _add(self, frame: av.AudioFrame) -> None:
        values = frame.to_ndarray().reshape(frame.samples, -1)
        time = pts_seconds(frame.pts, frame)
        if self._samples is None:
            self.rate = frame.sample_rate
            self._samples = self._silence(values.shape[1])
            self._next = 0 if time is None else self._position(time)
        if time is not None:
            position = self._position(time)
            if abs(position - self._next) > GAP * self.rate:
                self._next = position
        self._place(self._samples, values)
        self._next += len(values)
        self.full = self._next >= len(self._samples)

    def _silence(self, channels: int) -> np.ndarray:
        samples = round(self.seconds * self.rate)
        what = f"{float(self.seconds):,.0f} seconds of the sound of {self._name}"
        self._limits.check_bytes(what, 2 * samples * channels * 4, "Lower first_n_seconds or set max_frames.")
        return np.zeros((samples, channels), np.float32)

    def _position(self, time: Fraction) -> int:
        return round((time - self.begin) * self.rate)

    def _place(self, samples: np.ndarray, values: np.ndarray) -> None:
        first, last = max(0, -self._next), min(len(values), len(samples) - self._next)
        if first < last:
            samples[self._next + first : self._next + last] = values[first:last]
