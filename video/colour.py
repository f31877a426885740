"""Conversions between YUV and RGB that keep colours: which matrix a source has, and the scaler's flags."""

from __future__ import annotations

import logging
from fractions import Fraction

import av
import numpy as np

BT709, BT601, UNSPECIFIED = 1, 5, 2
SRGB_TRANSFER = 13
LIMITED_RANGE = 1
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
HD_HEIGHT = 720  # browsers take untagged video from this height on for BT.709

# The scaler's flags by number, since PyAV 16 has no names for the last two.
BICUBIC, AREA, FULL_CHROMA, ACCURATE_ROUNDING = 0x4, 0x20, 0x2000, 0x40000
ENLARGE = BICUBIC | FULL_CHROMA | ACCURATE_ROUNDING
REDUCE = AREA | FULL_CHROMA | ACCURATE_ROUNDING


def source_matrix(frame: av.VideoFrame) -> int | None:
    """The matrix to decode with where the frame names none, else None: BT.709 from 720 lines on, else BT.601."""
    if frame.colorspace != UNSPECIFIED or frame.format.is_rgb:
        return None
    return BT709 if frame.height >= HD_HEIGHT else BT601


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


class LeftSiting:
    """Tells the scaler where the chroma samples of VP8, VP9 and AV1 lie, which leave it open: as in all other video."""

    def __init__(self, frame: av.VideoFrame) -> None:
        self._graph = graph = av.filter.Graph()
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format.name, time_base=Fraction(1, 1000)
        )
        graph.link_nodes(
            source, graph.add("setparams", "chroma_location=left"), graph.add("buffersink")
        ).configure()

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        self._graph.push(frame)
        return self._graph.pull()


class ToYuv:
    """Converts pictures of one size to limited-range BT.709 with the chroma samples where decoders look for them.

    The scaler's own default puts them half a pixel further right, which shows after a few generations.
    """

    def __init__(self, width: int, height: int, pixel_format: str, source_format: str = "rgb24") -> None:
        self._graph = graph = av.filter.Graph()
        self._source_format = source_format
        source = graph.add_buffer(
            width=width, height=height, format=source_format, time_base=Fraction(1, 1000)
        )
        scale = graph.add(
            "scale",
            "out_color_matrix=bt709:out_range=tv:out_chroma_loc=left:flags=bicubic+accurate_rnd+full_chroma_inp",
        )
        target = graph.add("format", pixel_format)
        sink = graph.add("buffersink")
        graph.link_nodes(source, scale, target, sink).configure()

    def __call__(self, picture: np.ndarray) -> av.VideoFrame:
        """A uint8 picture [height, width, channels] as a frame without a time."""
        self._graph.push(av.VideoFrame.from_ndarray(picture, format=self._source_format))
        return self._graph.pull()
