"""The sound of exported videos: every channel but the bass is heard."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from fast_animatediff.video import Export, export_video
from fast_animatediff.video.writing.audio_writer import stereo

RATE = 48000
BASS = {6: 3, 7: 3, 8: 3}  # its place among so many channels


def tone(channels: int, sounding: int) -> dict:
    """A second of 440 Hz in one channel, silence in the others."""
    waveform = torch.zeros(1, channels, RATE)
    waveform[0, sounding] = 0.8 * torch.sin(2 * math.pi * 440 * torch.arange(RATE) / RATE)
    return {"waveform": waveform, "sample_rate": RATE}


def loudness(path: Path) -> float:
    with av.open(str(path)) as container:
        parts = [frame.to_ndarray() for frame in container.decode(audio=0)]
    return float(np.abs(np.concatenate(parts, axis=-1)).max())


@pytest.mark.parametrize("channels", range(1, 17))
def test_sound_of_any_number_of_channels_is_written_with_its_third_channel(tmp_path, channels) -> None:
    """The third is the centre of all usual layouts: what people say."""
    audio = tone(channels, min(2, channels - 1))
    path = export_video(torch.rand(8, 64, 64, 3), tmp_path, "clip", 1, Export(Fraction(8)), audio=audio)
    assert loudness(path) > 0.03


@pytest.mark.parametrize("channels", [3, 4, 5, 7, 8, 9, 16])
def test_no_channel_but_the_bass_is_lost_and_none_is_too_loud(channels) -> None:
    for sounding in range(channels):
        mixed = stereo(tone(channels, sounding)["waveform"][0])
        assert (mixed.abs().max() > 0.02) == (sounding != BASS.get(channels))
    assert stereo(torch.ones(channels, 10)).abs().max() <= 1.0 + 1e-6
