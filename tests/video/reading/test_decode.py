"""Pictures come out upright, in shape, in the right colours, whatever the file is like."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from clips import barcode, numbers, write_video, write_webp
from PIL import Image

from fast_animatediff.video import Clip, Selection, load_clip, open_source

EVERY = Selection(Fraction(0))
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def load(path: Path, selection: Selection = EVERY, size: str | tuple[int, int] = "source", **options) -> Clip:
    with open_source(str(path), path.name, options.get("limits")) as source:
        return load_clip(source, selection, size, **options)


def quadrants(height: int = 32, width: int = 64) -> np.ndarray:
    """Red, green / blue, white."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2], picture[: height // 2, width // 2 :] = RED, GREEN
    picture[height // 2 :, : width // 2], picture[height // 2 :, width // 2 :] = BLUE, WHITE
    return picture


def write(
    path: Path, pictures: list[np.ndarray], pix_fmt: str = "yuv420p", codec: str = "libx264", **stream
) -> Path:
    """Writes pictures at 10 fps, converted with BT.709 unless `matrix` says otherwise."""
    matrix, source = stream.pop("matrix", 1), "rgba" if pictures[0].shape[2] == 4 else "rgb24"
    rotation = stream.pop("rotation", None)
    flips = {axis: stream.pop(axis) for axis in ("hflip", "vflip") if axis in stream}
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=10)
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = pix_fmt
        video.options = (
            {"crf": "1", "preset": "ultrafast"}
            if codec == "libx264"
            else {"crf": "4", "b": "2M", "auto-alt-ref": "0"}
        )
        for name, value in stream.items():
            setattr(video.codec_context, name, value)
        if rotation is not None:
            video.set_display_rotation(rotation, **flips)
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format=source)
            container.mux(video.encode(frame.reformat(format=pix_fmt, dst_colorspace=matrix)))
        container.mux(video.encode(None))
    return path


def corners(image: torch.Tensor) -> list[tuple[int, ...]]:
    """The colours at the middle of each quarter, rounded to full channels."""
    height, width = image.shape[:2]
    spots = [(y, x) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    return [tuple(int(value > 0.5) * 255 for value in image[y, x].tolist()) for y, x in spots]


def display_matrix(path: Path) -> tuple[int, int, int, int]:
    """a, b, c, d of the track header: a point (x, y) is shown at (a x + c y, b x + d y)."""
    data = path.read_bytes()
    body = data[data.index(b"tkhd") + 4 :]
    values = np.frombuffer(body[40:76], ">i4") // 65536
    return values[0], values[1], values[3], values[4]


def shown_corners(path: Path) -> list[tuple[int, ...]]:
    """The colours of the quadrants where the display matrix puts them, seen from the middle of the picture."""
    a, b, c, d = display_matrix(path)
    shown = {}
    for colour, (x, y) in zip((RED, GREEN, BLUE, WHITE), ((-1, -1), (1, -1), (-1, 1), (1, 1)), strict=True):
        shown[a * x + c * y, b * x + d * y] = colour
    return [shown[spot] for spot in ((-1, -1), (1, -1), (-1, 1), (1, 1))]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_clip_filmed_sideways_comes_out_upright(tmp_path, degrees) -> None:
    path = write(tmp_path / "phone.mp4", [quadrants()] * 3, rotation=degrees)
    image = load(path).images[0]
    assert corners(image) == shown_corners(path)
    assert image.shape[:2] == ((32, 64) if degrees == 180 else (64, 32))


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("axis", ["hflip", "vflip"])
def test_a_mirrored_clip_comes_out_as_it_is_shown(tmp_path, degrees, axis) -> None:
    path = write(tmp_path / "selfie.mp4", [quadrants()] * 3, rotation=degrees, **{axis: True})
    assert corners(load(path).images[0]) == shown_corners(path)


def test_pixels_that_are_not_square_are_stretched(tmp_path) -> None:
    path = write(tmp_path / "dv.mp4", [quadrants()] * 2, sample_aspect_ratio=Fraction(16, 11))
    assert load(path).images.shape[1:3] == (32, round(64 * 16 / 11))


@pytest.mark.parametrize("height, width", [(17, 81), (33, 50), (31, 47)])
def test_odd_sizes_keep_every_row_and_column(tmp_path, height, width) -> None:
    picture = np.full((height, width, 3), 40, np.uint8)
    picture[-1], picture[:, -1] = 220, 220
    image = load(write(tmp_path / "odd.webm", [picture] * 2, codec="libvpx-vp9")).images[0]
    assert image.shape[:2] == (height, width)
    assert (
        image[-1].min() > 0.7 and image[:, -1].min() > 0.7 and image[: height // 2, : width // 2].max() < 0.3
    )


@pytest.mark.parametrize("width", [50, 66, 98])
def test_decoding_twice_gives_the_same_bits(tmp_path, width) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (34, width, 3), np.uint8)
    path = write(tmp_path / "noise.mp4", [noise] * 4)
    for size in ("source", (64, 64), (72, 40)):
        assert torch.equal(load(path, size=size).images, load(path, size=size).images)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "yuv444p", "yuv422p"])
def test_pixel_formats_agree_on_colours(tmp_path, pix_fmt) -> None:
    picture = np.broadcast_to(np.array([200, 90, 30], np.uint8), (32, 64, 3)).copy()
    path = write(tmp_path / "clip.mkv", [picture] * 2, pix_fmt, colorspace=1, color_range=1)
    assert (load(path).images * 255 - torch.tensor([200.0, 90, 30])).abs().max() < 2.5


def test_full_range_video_keeps_black_and_white(tmp_path) -> None:
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:, 32:] = 255
    image = load(write(tmp_path / "camera.avi", [picture] * 2, "yuvj420p", "mjpeg")).images[0]
    assert image[:, :28].max() < 0.02 and image[:, 36:].min() > 0.98


@pytest.mark.parametrize("matrix, tag", [(1, 1), (5, 5), (5, 6)])
def test_tagged_video_is_decoded_by_its_tag(tmp_path, matrix, tag) -> None:
    red = np.broadcast_to(np.array(RED, np.uint8), (48, 64, 3)).copy()
    path = write(tmp_path / "red.mp4", [red] * 2, matrix=matrix, colorspace=tag, color_range=1)
    assert (load(path).images * 255 - torch.tensor([255.0, 0, 0])).abs().max() < 3


@pytest.mark.parametrize("height, matrix", [(480, 5), (718, 5), (720, 1), (1080, 1)])
def test_untagged_video_is_decoded_as_browsers_do(tmp_path, height, matrix) -> None:
    red = np.broadcast_to(np.array(RED, np.uint8), (height, 64, 3)).copy()
    path = write(tmp_path / "red.mp4", [red] * 2, matrix=matrix)
    assert (load(path).images * 255 - torch.tensor([255.0, 0, 0])).abs().max() < 3


@pytest.mark.parametrize("transfer, name", [(16, "PQ"), (18, "HLG")])
def test_hdr_video_is_decoded_with_a_warning(tmp_path, caplog, transfer, name) -> None:
    path = write(
        tmp_path / "phone.mp4", [quadrants()] * 2, "yuv420p10le", color_trc=transfer, color_primaries=9
    )
    assert len(load(path).images) == 2
    assert "phone.mp4" in caplog.text and name in caplog.text


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_transparent_webm_is_put_on_black_with_a_mask(tmp_path, codec) -> None:
    picture = np.full((32, 64, 4), 255, np.uint8)
    picture[:, 32:, 3] = 0
    clip = load(write(tmp_path / "logo.webm", [picture] * 3, "yuva420p", codec))
    assert clip.images[:, :, :28].min() > 0.95 and clip.images[:, :, 36:].max() < 0.05
    assert clip.mask.shape == (3, 32, 64)
    assert clip.mask[:, :, :28].max() < 0.05 and clip.mask[:, :, 36:].min() > 0.95


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_hidden_colours_of_transparent_animations_do_not_bleed(tmp_path, suffix) -> None:
    """Transparent white beside opaque black must stay black at every size."""
    first, second = (Image.new("RGBA", (64, 64), (255, 255, 255, 0)) for _ in range(2))
    first.paste((0, 0, 0, 255), (0, 0, 31, 64))
    second.paste((0, 0, 0, 255), (0, 0, 31, 60))
    path = tmp_path / f"sticker{suffix}"
    exact = {"exact": True, "lossless": True} if suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=[second], duration=100, disposal=2, **exact)
    for size in ("source", (40, 40), (100, 100)):
        assert load(path, size=size).images.max() < 0.02
    mask = load(path).mask
    assert mask[0, :, :28].max() == 0 and mask[0, :, 36:].min() == 1


@pytest.mark.parametrize("milliseconds", [0, 10])
def test_a_gif_with_zero_delays_plays_at_ten_fps(tmp_path, milliseconds) -> None:
    frames = [Image.fromarray(barcode(number)) for number in range(8)]
    path = tmp_path / "old.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=milliseconds)
    clip = load(path)
    assert (numbers(clip.images), clip.fps) == (list(range(8)), 10)


def test_a_webp_with_zero_delays_plays_at_ten_fps(tmp_path) -> None:
    assert load(write_webp(tmp_path / "old.webp", [0] * 8)).fps == 10


def test_an_animated_png_leaves_out_its_still_picture(tmp_path) -> None:
    frames = [Image.fromarray(barcode(number)) for number in range(5)]
    path = tmp_path / "clip.png"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=125, default_image=True)
    clip = load(path, Selection(Fraction(8)))
    assert numbers(clip.images) == [1, 2, 3, 4]


def test_a_gif_of_eight_fps_by_another_program_gives_each_frame_once(tmp_path) -> None:
    """Delays rounded to 13, 12, 13, 12 hundredths of a second."""
    times = [Fraction(cs, 100) for cs in (0, 13, 25, 38, 50, 63, 75, 88)]
    path = write_video(tmp_path / "clip.gif", times)
    assert numbers(load(path, Selection(Fraction(8), Fraction(1))).images) == list(range(8))


def test_a_preset_fills_its_size_and_crops_the_sides_evenly(tmp_path) -> None:
    picture = np.zeros((64, 192, 3), np.uint8)
    picture[:, 64:128] = 255
    image = load(write(tmp_path / "wide.mp4", [picture] * 2), size=(64, 64)).images[0]
    assert image[:, 2:-2].min() > 0.9


@pytest.mark.parametrize(
    "width, height, expected",
    [(1920, 1080, (680, 384)), (1080, 1920, (384, 680)), (512, 512, (512, 512)), (640, 480, (592, 440))],
)
def test_fit_keeps_the_shape_in_multiples_of_eight(tmp_path, width, height, expected) -> None:
    picture = np.zeros((height, width, 3), np.uint8)
    images = load(write(tmp_path / "clip.mp4", [picture]), size="fit 512x512 area").images
    assert (images.shape[2], images.shape[1]) == expected


def test_a_size_that_changes_midway_is_scaled_to_the_first(tmp_path) -> None:
    first = write(tmp_path / "a.ts", [quadrants(32, 64)] * 5)
    second = write(tmp_path / "b.ts", [quadrants(48, 96)] * 5)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    images = load(joined).images
    assert images.shape == (10, 32, 64, 3)
    assert corners(images[9]) == [RED, GREEN, BLUE, WHITE]


def test_colours_that_change_their_matrix_midway_stay_the_same(tmp_path) -> None:
    red = np.broadcast_to(np.array(RED, np.uint8), (32, 64, 3)).copy()
    parts = [
        write(tmp_path / f"{tag}.ts", [red] * 4, matrix=tag, colorspace=tag, color_range=1) for tag in (1, 5)
    ]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert (load(joined).images * 255 - torch.tensor([255.0, 0, 0])).abs().max() < 3


def test_a_video_in_palette_colours_can_be_loaded(tmp_path) -> None:
    path = tmp_path / "old.avi"
    with av.open(str(path), "w") as container:
        video = container.add_stream("rawvideo", rate=10)
        video.width, video.height, video.pix_fmt = 64, 32, "pal8"
        frame = av.VideoFrame(64, 32, "pal8")
        frame.planes[0].update(bytes(64 * 32))
        frame.planes[1].update(np.full(256, 0xFF0000FF, np.uint32).tobytes())  # opaque blue
        container.mux(video.encode(frame))
    assert corners(load(path).images[0]) == [BLUE] * 4


def test_a_transparent_palette_is_put_on_black(tmp_path) -> None:
    frames = [Image.new("P", (32, 32), level) for level in (0, 1)]
    for frame in frames:
        frame.putpalette([255, 255, 255, 255, 0, 0])
        frame.paste(2 - frame.getpixel((0, 0)), (0, 0, 8, 8))
    path = tmp_path / "sticker.png"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100, transparency=0)
    clip = load(path)
    assert clip.images[0, 20:, 20:].max() == 0 and clip.mask[0, 20:, 20:].min() == 1
