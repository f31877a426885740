"""Conversions between YUV and RGB that keep colours: which matrix a source has, and the scaler's flags."""

from __future__ import annotations

import logging
from fractions import Fraction

import av
import numpy as np

BT709, UNSPECIFIED = 1, 2
SRGB_TRANSFER = 13
LIMITED_RANGE = 1
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
HD_HEIGHT = 720  # browsers take untagged video from this height on for BT.709

MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
RANGES = {1: "tv", 2: "pc"}
# The chroma samples of these codecs lie between two pixels, those of all others on the left.
CENTRED = ("mjpeg", "mpeg1video")


def source_matrix(frame: av.VideoFrame) -> str:
    """The matrix to decode with: the frame's own, and where it names none BT.709 from 720 lines on, else BT.601."""
    if frame.format.is_rgb or frame.colorspace != UNSPECIFIED:
        return MATRICES.get(int(frame.colorspace), "auto")
    return "bt709" if frame.height >= HD_HEIGHT else "bt601"


def has_alpha(frame: av.VideoFrame) -> bool:
    """Whether the frame's pixel format carries transparency."""
    return frame.format.name == "pal8" or any(component.is_alpha for component in frame.format.components)


def warn_about_hdr(decoder: av.VideoCodecContext, name: str) -> None:
    """Logs one line for PQ and HLG sources, which are decoded without tone mapping."""
    transfer = HDR_TRANSFERS.get(int(decoder.color_trc))
    if transfer:
        logging.warning(
            "%s is an HDR video (%s): colours will look flat. Convert it to SDR first.", name, transfer
        )


def tag_bt709(codec: av.VideoCodecContext) -> None:
    """Marks the encoded stream as BT.709 with limited range and the sRGB transfer; call before the first frame."""
    codec.colorspace = BT709
    codec.color_primaries = BT709
    codec.color_trc = SRGB_TRANSFER
    codec.color_range = LIMITED_RANGE


def premultiplied(frame: av.VideoFrame) -> av.VideoFrame:
    """An RGBA frame with its colours put on black, so that hidden colours don't bleed when it is scaled."""
    rgba = frame.to_ndarray()
    alpha = rgba[..., 3:].astype(np.uint16)
    rgba[..., :3] = (rgba[..., :3] * alpha + 127) // 255
    return av.VideoFrame.from_ndarray(rgba, format="rgba")


class ToRgb:
    """Converts frames like the given one to width x height in full-range RGB, with chroma interpolated."""

    def __init__(
        self, frame: av.VideoFrame, width: int, height: int, pixel_format: str, codec: str = ""
    ) -> None:
        kernel = "area" if width * height < frame.width * frame.height else "bicubic"
        options = [
            f"{width}:{height}",
            f"flags={kernel}+accurate_rnd+full_chroma_int",
            f"in_color_matrix={source_matrix(frame)}",
            f"in_range={RANGES.get(int(frame.color_range), 'auto')}",
        ]
        if not frame.format.is_rgb and codec not in CENTRED:
            options.append("in_chroma_loc=left")
        self._convert = _Scaler(frame.width, frame.height, frame.format.name, ":".join(options), pixel_format)

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        return self._convert(frame)


class ToYuv:
    """Converts pictures of one size to limited-range BT.709 with the chroma samples where decoders look for them.

    The scaler's own default puts them half a pixel further right, which shows after a few generations.
    """

    def __init__(self, width: int, height: int, pixel_format: str, source_format: str = "rgb24") -> None:
        options = "out_color_matrix=bt709:out_range=tv:out_chroma_loc=left:flags=bicubic+accurate_rnd+full_chroma_inp"
        self._source_format = source_format
        self._convert = _Scaler(width, height, source_format, options, pixel_format)

    def __call__(self, picture: np.ndarray) -> av.VideoFrame:
        """A uint8 picture [height, width, channels] as a frame without a time."""
        return self._convert(av.VideoFrame.from_ndarray(picture, format=self._source_format))


class _Scaler:
    """FFmpeg's scale filter for frames of one size and format. The graph lives as long as its parts are used."""

    def __init__(self, width: int, height: int, source_format: str, options: str, pixel_format: str) -> None:
        self._graph = graph = av.filter.Graph()
        self._source = graph.add_buffer(
            width=width, height=height, format=source_format, time_base=Fraction(1, 1000)
        )
        self._sink = graph.add("buffersink")
        graph.link_nodes(
            self._source, graph.add("scale", options), graph.add("format", pixel_format), self._sink
        ).configure()

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        self._source.push(frame)
        return self._sink.pull()
