"""Video files that play everywhere: BT.709 converted and tagged, the rate exact, sound cut to the pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av

from ..colour import ToYuv, tag_bt709
from ..frames import Frames, Progress, uint8_frames
from .audio_writer import AudioWriter


@dataclass(frozen=True)
class Codec:
    """A container with its encoders; `crf` has a value for each of the qualities low, medium, high and maximum."""

    container: str
    video: str
    audio: str
    pixel_format: str
    crf: tuple[int, int, int, int]
    options: Mapping[str, str] = field(default_factory=dict)
    muxer_options: Mapping[str, str] = field(default_factory=dict)
    alpha: bool = False


H264 = Codec(
    "mp4",
    "libx264",
    "aac",
    "yuv420p",
    (28, 23, 18, 12),
    {"preset": "medium"},
    {"movflags": "use_metadata_tags+faststart"},  # without the first the workflow is dropped silently
)
AV1 = Codec("webm", "libsvtav1", "libopus", "yuv420p10le", (45, 37, 30, 20), {"preset": "8"})
AV1_SMALLEST = 64  # pixels; the encoder hangs on pictures of 16 lines
AV1_LARGEST = (8704, 16384)  # pixels, height and width
AV1_FASTEST = 240  # frames per second
# Below this crf the encoder starves every second frame (crf 1: alternately 55 and 33 dB), and FFmpeg takes 0 for "not set".
AV1_LOWEST_CRF = 16
# Pixels. Of smaller pictures x264's macroblock tree, in vector code, reads memory that it never wrote: ten exports of the
# same 64x64 frames gave six different files. Of larger ones that is rare (once in 8 at 160x160, never in 10 at 512x512),
# and the tree saves bytes.
SMALLEST_FOR_MBTREE = 128 * 128
VP9_OPTIONS = {"b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}
VP9 = Codec("webm", "libvpx-vp9", "libopus", "yuv420p", (45, 37, 30, 18), VP9_OPTIONS)
VP9_ALPHA = Codec("webm", "libvpx-vp9", "libopus", "yuva420p", (45, 37, 30, 18), VP9_OPTIONS, alpha=True)


def webm_codec(images: Frames, fps: Fraction, crf: int) -> Codec:
    """AV1 where this build of FFmpeg has it; VP9 for transparency and for what the AV1 encoder refuses or does badly.

    `crf` is -1 where the quality decides.
    """
    if images.shape[-1] == 4:
        return VP9_ALPHA
    height, width = images.shape[1:3]
    fits = min(height, width) >= AV1_SMALLEST and height <= AV1_LARGEST[0] and width <= AV1_LARGEST[1]
    is_steady = crf < 0 or crf >= AV1_LOWEST_CRF
    return AV1 if AV1.video in av.codecs_available and fits and is_steady and fps <= AV1_FASTEST else VP9


def write_video(
    images: Frames,
    path: Path,
    codec: Codec,
    *,
    order: list[int],
    fps: Fraction,
    crf: int,
    audio: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> None:
    """Encodes images [n, height, width, channels] in 0..1 in the given order, one frame in memory at a time."""
    with (
        quiet_av1(),
        av.open(str(path), "w", format=codec.container, options=dict(codec.muxer_options)) as container,
    ):
        container.metadata.update(tags or {})
        video = _add_video(container, codec, images, fps, crf)
        sound = AudioWriter(container, codec.audio, audio) if audio else None
        to_yuv = ToYuv(video.width, video.height, codec.pixel_format, "rgba" if codec.alpha else "rgb24")
        frames = uint8_frames(images, order, alpha=codec.alpha, even=True, progress=progress)
        for done, picture in enumerate(frames, start=1):
            frame = to_yuv(picture)
            frame.pts, frame.time_base = done - 1, 1 / fps
            container.mux(video.encode(frame))
            if sound:
                sound.write_until(done / fps)
        container.mux(video.encode(None))
        if sound:
            sound.finish()


@contextmanager
def quiet_av1() -> Iterator[None]:
    """Keeps the AV1 encoder from printing a page to the console: it reads this variable when it starts."""
    chosen = os.environ.get("SVT_LOG")
    os.environ.setdefault("SVT_LOG", "1")
    try:
        yield
    finally:
        if chosen is None:
            os.environ.pop("SVT_LOG", None)


def _add_video(
    container: av.container.OutputContainer, codec: Codec, images: Frames, fps: Fraction, crf: int
) -> av.VideoStream:
    stream = cast(av.VideoStream, container.add_stream(codec.video, rate=fps))
    stream.height, stream.width = (side + side % 2 for side in images.shape[1:3])
    stream.pix_fmt = codec.pixel_format
    stream.options = {"crf": str(crf), **codec.options}
    if codec.video == "libx264" and stream.height * stream.width < SMALLEST_FOR_MBTREE:
        stream.options |= {"x264-params": "mbtree=0"}
    tag_bt709(stream.codec_context)
    return stream
