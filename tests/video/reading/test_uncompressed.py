"""Raw RGB in AVI: rows from the bottom up, and a fourth byte that many programs leave at zero."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest
from test_decode import BLUE, GREEN, RED, WHITE, corners, load, quadrants

BLACK = (0, 0, 0)
WIDTH, HEIGHT = 48, 32


def raw_avi(path: Path, alpha: tuple[int, int], bottom_up: bool) -> Path:
    """Four colours in 32 bits per pixel, with an alpha for the left half and one for the right half."""
    picture = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    picture[..., :3] = quadrants(HEIGHT, WIDTH)[..., ::-1]
    picture[..., 3] = np.repeat(alpha, WIDTH // 2)
    rows = np.ascontiguousarray(picture[::-1] if bottom_up else picture)
    with av.open(str(path), "w") as container:
        video = container.add_stream("rawvideo", rate=10)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "bgra"
        container.mux(video.encode(av.VideoFrame.from_ndarray(rows, format="bgra")))
    data = bytearray(path.read_bytes())
    height = data.index(b"strf") + 16  # in the bitmap header: negative where the top row comes first
    assert abs(struct.unpack_from("<i", data, height)[0]) == HEIGHT
    struct.pack_into("<i", data, height, HEIGHT if bottom_up else -HEIGHT)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("bottom_up", [True, False])
@pytest.mark.parametrize("alpha", [(0, 0), (255, 255)])
def test_raw_rgb_is_upright_and_its_unused_byte_hides_nothing(tmp_path, alpha, bottom_up) -> None:
    clip = load(raw_avi(tmp_path / "raw.avi", alpha, bottom_up))
    assert corners(clip.images[0]) == [RED, GREEN, BLUE, WHITE] and clip.mask is None


@pytest.mark.parametrize("bottom_up", [True, False])
def test_raw_rgb_with_alpha_is_put_on_black(tmp_path, bottom_up) -> None:
    clip = load(raw_avi(tmp_path / "raw.avi", (255, 0), bottom_up))
    assert corners(clip.images[0]) == [RED, BLACK, BLUE, BLACK]
    assert clip.mask[0, :, : WIDTH // 2].max() == 0 and clip.mask[0, :, WIDTH // 2 :].min() == 1


def test_deep_alpha_that_hides_nothing_makes_no_mask(tmp_path) -> None:
    path = tmp_path / "clip.mov"
    picture = np.dstack([quadrants(HEIGHT, WIDTH), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    with av.open(str(path), "w") as container:
        video = container.add_stream("prores_ks", rate=10)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuva444p10le"
        container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgba")))
        container.mux(video.encode(None))
    clip = load(path)
    assert corners(clip.images[0]) == [RED, GREEN, BLUE, WHITE] and clip.mask is None
