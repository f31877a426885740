"""What a stream says beside its pictures: messages of every kind in H.264 leave the frames as they are."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from clips import WIDTH, barcode, numbers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fast_animatediff.video import Selection, load_clip, open_source

FRAMES = 5
ORIENTATION = 47  # which may turn the picture
# Messages of country, provider and kind: captions, picture shape, HDR10+, Dolby, an enhancement layer (LCEVC), CUVA.
REGISTERED = [
    "b5003147413934",
    "b5003144544731",
    "b5003c000104",
    "b5003b00000800",
    "b4005001",
    "26000400050001",
]


def message(kind: int, payload: bytes) -> bytes:
    """A NAL unit of supplemental enhancement information."""
    size = [255] * (len(payload) // 255) + [len(payload) % 255]
    data = bytes([6, *[255] * (kind // 255), kind % 255, *size]) + payload + b"\x80"
    escaped = bytearray()
    for byte in data:  # no start code may turn up inside
        if byte <= 3 and escaped[-2:] == b"\0\0":
            escaped.append(3)
        escaped.append(byte)
    return b"\0\0\0\1" + bytes(escaped)


def write_with(path: Path, messages: bytes) -> None:
    """Bar-coded frames, each with those messages before it."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(
            "libx264", rate=10, options={"preset": "ultrafast", "tune": "zerolatency"}
        )
        video.width, video.height, video.pix_fmt = WIDTH, 32, "yuv420p"
        packets = []
        for k in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(barcode(k).repeat(2, axis=0), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 10)
            packets += video.encode(frame)
        for packet in packets + video.encode(None):
            told = av.Packet(messages + bytes(packet))
            told.stream, told.time_base, told.is_keyframe = video, packet.time_base, packet.is_keyframe
            told.pts, told.dts, told.duration = packet.pts, packet.dts, packet.duration
            container.mux(told)


def read(path: Path) -> list[int]:
    with open_source(str(path), path.name) as source:
        images = load_clip(source, Selection(Fraction(0)), "source").images
    return numbers(images[:, ::2]) if images.shape[1:3] == (32, WIDTH) else [-1] * len(images)


@pytest.mark.parametrize("registered", REGISTERED)
@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
def test_registered_messages_change_nothing(tmp_path, registered, suffix) -> None:
    path = tmp_path / f"clip{suffix}"
    write_with(path, message(4, bytes.fromhex(registered) + bytes(range(1, 40))))
    assert read(path) == list(range(FRAMES))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    messages=st.lists(
        st.tuples(
            st.one_of(
                st.sampled_from([0, 1, 4, 5, 6, 19, 45, ORIENTATION, 137, 144, 147, 148, 149, 150, 176, 200]),
                st.integers(0, 300),
            ),
            st.one_of(st.binary(max_size=60), st.sampled_from(REGISTERED).map(bytes.fromhex)),
            st.binary(max_size=80),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_messages_of_any_kind_leave_the_frames_as_they_are(tmp_path, messages) -> None:
    path = tmp_path / "clip.ts"
    write_with(path, b"".join(message(kind, head + rest) for kind, head, rest in messages))
    turned = any(kind == ORIENTATION for kind, *_ in messages)
    found = read(path)
    assert len(found) == FRAMES and (turned or found == list(range(FRAMES)))
