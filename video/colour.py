"""Conversions between YUV and RGB that keep colours: the matrix of a source, and the flags of the scaler."""

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
YCGCO = 8  # which only another filter than the scaler knows
YCGCO_TO_BT709 = "ispace=ycgco:iprimaries=bt709:itrc=bt709:space=bt709:primaries=bt709:trc=bt709"
RANGES = {1: "tv", 2: "pc"}
# The chroma samples of these codecs lie between two pixels, those of all others on the left.
CENTRED = ("mjpeg", "mpeg1video")


def source_matrix(frame: av.VideoFrame) -> str:
    """The matrix to decode with: the frame's own, else BT.709 from 720 lines on and BT.601 below."""
    if frame.format.is_rgb:
        return "auto"
    if frame.colorspace == YCGCO:
        return "bt709"
    return MATRICES.get(int(frame.colorspace), "bt709" if frame.height >= HD_HEIGHT else "bt601")


def has_alpha(frame: av.VideoFrame) -> bool:
    """Whether the frame's pixel format carries transparency."""
    return frame.format.name == "pal8" or any(component.is_alpha for component in frame.format.components)


def is_opaque(frame: av.VideoFrame) -> bool:
    """Whether no pixel is transparent, where that is quickly seen: in 8-bit RGBA and in 8-bit planes."""
    alpha = frame.format.components[-1]
    if not alpha.is_alpha or alpha.bits != 8:
        return not has_alpha(frame)
    plane = frame.planes[alpha.plane]
    if plane.line_size < 0:  # stored from the bottom up; PyAV's buffer begins at the last row in memory
        return False
    # PyAV's types leave out that a plane is a buffer.
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
    rows = rows[: frame.height]
    if frame.format.name in ("rgba", "bgra"):
        return bool(np.bitwise_and.reduce(rows.view("<u4")[:, : frame.width], axis=None) >> 24 == 255)
    return alpha.plane == 3 and bool(rows[:, : frame.width].min() == 255)


def warn_about_hdr(decoder: av.VideoCodecContext, name: str) -> None:
    """Logs one line for PQ and HLG sources, which are decoded without tone mapping."""
    transfer = HDR_TRANSFERS.get(int(decoder.color_trc))
    if transfer:
        logging.getLogger(__name__).warning(
            "%s is an HDR video (%s): colours will look flat. Convert it to SDR first.", name, transfer
        )


def tag_bt709(codec: av.VideoCodecContext) -> None:
    """Marks the encoded stream as BT.709 with limited range and the sRGB transfer; call before the first frame."""
    codec.colorspace = BT709
    codec.color_primaries = BT709
    codec.color_trc = SRGB_TRANSFER
    codec.color_range = LIMITED_RANGE


def premultiplied(rgba: np.ndarray) -> av.VideoFrame:
    """A frame of pixels [height, width, 4], which it changes: on black, so that hidden colours don't bleed when it is scaled."""
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
        filters = [untagging(frame)]
        if frame.colorspace == YCGCO and not frame.format.is_rgb:
            filters.append(("colorspace", YCGCO_TO_BT709))
        filters += [("scale", ":".join(options)), ("format", pixel_format)]
        self._graph = filter_graph(frame, *filters)

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        self._graph.vpush(frame)
        return self._graph.vpull()


class ToYuv:
    """Converts pictures of one size to limited-range BT.709 with the chroma samples where decoders look for them.

    The scaler's own default puts them half a pixel further right, which shows after a few generations.
    """

    def __init__(self, width: int, height: int, pixel_format: str, source_format: str = "rgb24") -> None:
        options = "out_color_matrix=bt709:out_range=tv:out_chroma_loc=left:flags=bicubic+accurate_rnd+full_chroma_inp"
        self._source_format = source_format
        blank = av.VideoFrame(width, height, source_format)
        self._graph = filter_graph(blank, ("scale", options), ("format", pixel_format))

    def __call__(self, picture: np.ndarray) -> av.VideoFrame:
        """A uint8 picture [height, width, channels] as a frame without a time."""
        self._graph.vpush(av.VideoFrame.from_ndarray(picture, format=self._source_format))
        return self._graph.vpull()


def untagging(frame: av.VideoFrame) -> tuple[str, str]:
    """A filter before the scaler, which refuses frames with tags that it does not know, whether it needs them or not."""
    tags = (
        ("color_primaries", "color_trc")
        if frame.format.is_rgb
        else ("color_primaries", "color_trc", "colorspace")
    )
    return "setparams", ":".join(f"{tag}=unknown" for tag in tags)


def filter_graph(frame: av.VideoFrame, *filters: tuple[str, str]) -> av.filter.Graph:
    """FFmpeg's filters, each with its options, one after the other, for frames of the size and format of this one."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
    )
    graph.link_nodes(source, *(graph.add(*each) for each in filters), graph.add("buffersink")).configure()
    return graph
