"""Sound beside the pictures of a video that is being written, in step with them and no longer than they are."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, cast

import av
import torch
from torch import Tensor

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
# How much the third and later channels add to (left, right), in FFmpeg's channel order for layouts of that many.
CENTRE, LEFT, RIGHT, BASS, BACK = (0.7, 0.7), (0.7, 0.0), (0.0, 0.7), (0.0, 0.0), (0.5, 0.5)
ADDED = {
    3: (CENTRE,),  # 3.0
    4: (CENTRE, BACK),
    5: (CENTRE, LEFT, RIGHT),
    7: (CENTRE, BASS, BACK, LEFT, RIGHT),
    8: (CENTRE, BASS, LEFT, RIGHT, LEFT, RIGHT),
}
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
STANDARD_RATE = 48000
HIGHEST_RATE = 768_000
BIT_RATE = 192_000


class AudioWriter:
    """Encodes the first item of an AUDIO value {waveform [batch, channels, samples], sample_rate} piece by piece."""

    def __init__(self, container: av.container.OutputContainer, codec: str, audio: Mapping[str, Any]) -> None:
        if not 1 <= (audio.get("sample_rate") or 0) <= HIGHEST_RATE:
            raise ValueError(
                f"The audio has no sample_rate from 1 to {HIGHEST_RATE:,}. Check the node that makes it."
            )
        waveform = audio.get("waveform")
        if waveform is None:
            raise ValueError("The audio has no waveform. Check the node that makes it.")
        if waveform.ndim != 3 or 0 in waveform.shape[:2]:
            raise ValueError(f"Expected audio [batch, channels, samples], got {list(waveform.shape)}.")
        self._samples = waveform[0] if waveform.shape[1] in LAYOUTS else stereo(waveform[0])
        self._layout = LAYOUTS[self._samples.shape[0]]
        self._source_rate = int(audio["sample_rate"])
        rate = self._source_rate if codec == "aac" and self._source_rate in AAC_RATES else STANDARD_RATE
        self._container, self._done = container, 0
        self._stream = cast(av.AudioStream, container.add_stream(codec, rate=rate, layout=self._layout))
        self._stream.bit_rate = BIT_RATE

    def write_until(self, time: Fraction) -> None:
        """Encodes the sound before `time` seconds that has not been written yet."""
        end = min(round(time * self._source_rate), self._samples.shape[1])
        if end <= self._done:
            return
        piece = self._samples[:, self._done : end].detach().to("cpu", torch.float32)
        if not torch.isfinite(piece).all():
            raise ValueError(
                f"The audio holds NaN or infinite values before {float(time):.1f} s: "
                "the node before this one made them. Disconnect audio to export without sound."
            )
        frame = av.AudioFrame.from_ndarray(
            piece.clamp(-1, 1).contiguous().numpy(), format="fltp", layout=self._layout
        )
        frame.sample_rate, frame.pts = self._source_rate, self._done
        frame.time_base = Fraction(1, self._source_rate)
        self._container.mux(self._stream.encode(frame))
        self._done = end

    def finish(self) -> None:
        """Writes what the encoder still holds."""
        self._container.mux(self._stream.encode(None))


def stereo(samples: Tensor) -> Tensor:
    """[channels, samples] mixed down to two channels, losing none but the bass; never louder than the source.

    Where there are more than eight, their places are unknown: each is heard on both sides.
    """
    channels = len(samples)
    added = ADDED.get(channels, (CENTRE,) * (channels - 2))
    mix = torch.tensor([(1.0, 0.0), (0.0, 1.0), *added], dtype=torch.float32, device=samples.device).T
    return (mix / mix.sum(dim=1, keepdim=True)) @ samples.float()
