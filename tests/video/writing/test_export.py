"""Exported files: exact rates, the right colours, whole or not there at all."""

from __future__ import annotations

import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from clips import bars, numbers
from PIL import Image

from fast_animatediff.video import (
    FORMATS,
    QUALITIES,
    Clip,
    Export,
    Selection,
    export_video,
    load_clip,
    open_source,
)

EIGHT = Export(Fraction(8))
VIDEO_FORMATS = ("mp4", "webm")


def load(path: Path, fps: int = 0) -> Clip:
    with open_source(str(path), path.name) as source:
        return load_clip(source, Selection(Fraction(fps)), "source")


def photo(height: int = 96, width: int = 128) -> torch.Tensor:
    """A smooth picture with every hue, some texture and both ends of the scale."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    picture = torch.stack([x, y, 0.5 + 0.5 * torch.sin(9 * x + 5 * y)], -1)
    picture[: height // 8] = torch.linspace(0, 1, width)[None, :, None]
    return picture


def save(images: torch.Tensor, folder: Path, settings: Export = EIGHT, **options) -> Path:
    return export_video(images, folder, "clip", 1, settings, **options)


def gif_delays(path: Path) -> list[int]:
    """The delays in hundredths of a second, from the graphic control blocks."""
    data = path.read_bytes()
    return [
        struct.unpack_from("<H", data, at + 4)[0]
        for at in range(len(data) - 8)
        if data[at : at + 3] == b"\x21\xf9\x04" and data[at + 7] == 0
    ]


def webp_durations(path: Path) -> list[int]:
    """The durations in milliseconds, from the frame chunks."""
    data, at, durations = path.read_bytes(), 12, []
    while at < len(data):
        size = struct.unpack_from("<I", data, at + 4)[0]
        if data[at : at + 4] == b"ANMF":
            durations.append(int.from_bytes(data[at + 20 : at + 23], "little"))
        at += 8 + size + size % 2
    return durations


@pytest.mark.parametrize("format", FORMATS)
def test_every_frame_comes_back_once_at_the_same_rate(tmp_path, format) -> None:
    clip = load(save(bars(17), tmp_path, Export(Fraction(8), format)), fps=8)
    assert numbers(clip.images[:, :16, :80]) == list(range(17))


@pytest.mark.parametrize(
    "rate", [Fraction(8), Fraction(24000, 1001), Fraction(30000, 1001), Fraction(25, 2)], ids=str
)
def test_mp4_keeps_the_rate_exactly(tmp_path, rate) -> None:
    with av.open(str(save(bars(30), tmp_path, Export(rate)))) as container:
        stream = container.streams.video[0]
        assert (stream.average_rate, stream.frames) == (rate, 30)
        assert stream.duration * stream.time_base == 30 / rate


def test_mp4_plays_everywhere(tmp_path) -> None:
    path = save(bars(8), tmp_path)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt, codec.profile) == ("h264", "yuv420p", "High")


@pytest.mark.parametrize("format", VIDEO_FORMATS)
@pytest.mark.parametrize("alpha", [False, True])
def test_video_is_tagged_as_what_it_is(tmp_path, format, alpha) -> None:
    images = torch.rand(3, 32, 32, 4 if alpha else 3)
    with av.open(str(save(images, tmp_path, Export(Fraction(8), format)))) as container:
        codec = container.streams.video[0].codec_context
        next(container.decode(video=0))
        assert (codec.colorspace, codec.color_primaries, codec.color_trc, codec.color_range) == (1, 1, 13, 1)


@pytest.mark.parametrize("format", [*VIDEO_FORMATS, "webp"])
def test_colours_do_not_drift_over_eight_generations(tmp_path, format) -> None:
    original = torch.stack([photo(), photo().flip(1), 1 - photo(), torch.full((96, 128, 3), 0.5)])
    images = original
    for _ in range(8):
        images = load(save(images, tmp_path, Export(Fraction(8), format))).images
    drift = (images - original).mean((0, 1, 2)) * 255
    assert drift.abs().max() < 1.5
    assert 10 * torch.log10(1 / ((images - original) ** 2).mean()) > 32


@pytest.mark.parametrize("format", FORMATS)
def test_plain_colours_come_back(tmp_path, format) -> None:
    colours = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0], [0.8, 0.35, 0.1]])
    images = colours[:, None, None].expand(6, 32, 32, 3)
    back = load(save(images, tmp_path, Export(Fraction(8), format)), fps=8).images[:, 8:24, 8:24].mean((1, 2))
    # WebP has no wider chroma than video, and its encoder trades more of it.
    assert (back - colours).abs().max() < (0.03 if format == "webp" else 0.016)


def test_levels_are_rounded_and_not_cut(tmp_path) -> None:
    images = torch.full((1, 16, 16, 3), 99.9 / 255)
    path = save(images, tmp_path, Export(Fraction(8), "gif"))
    assert np.array(Image.open(path.with_suffix(".png"))).min() == 100


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("height, width", [(31, 45), (32, 45), (31, 44)])
def test_odd_sizes_lose_no_row_or_column(tmp_path, format, height, width) -> None:
    images = torch.full((3, height, width, 3), 0.15)
    images[:, -1], images[:, :, -1] = 0.85, 0.85
    back = load(save(images, tmp_path, Export(Fraction(8), format))).images
    assert back.shape[1] - height in (0, height % 2) and back.shape[2] - width in (0, width % 2)
    assert back[0, height - 1 :].mean() > 0.7 and back[0, :, width - 1 :].mean() > 0.7


@pytest.mark.parametrize("format", FORMATS)
def test_one_frame_is_a_clip_too(tmp_path, format) -> None:
    assert len(load(save(bars(1), tmp_path, Export(Fraction(8), format))).images) == 1


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_equal_frames_last_as_long_as_others(tmp_path, format, channels, count) -> None:
    images = torch.full((count, 32, 48, channels), 0.5)
    images[..., 3:] = 1
    clip = load(save(images, tmp_path, Export(Fraction(8), format), tags={"prompt": "{}"}), fps=8)
    assert (len(clip.images), clip.seconds, clip.mask) == (count, Fraction(count, 8), None)
    assert (clip.images - 0.5).abs().max() < 0.02


@pytest.mark.parametrize("format", FORMATS)
def test_ping_pong_comes_back_without_repeating_the_ends(tmp_path, format) -> None:
    clip = load(save(bars(5), tmp_path, Export(Fraction(10), format, ping_pong=True)), fps=10)
    assert numbers(clip.images[:, :16, :80]) == [0, 1, 2, 3, 4, 3, 2, 1]


@pytest.mark.parametrize("format", ["webm", "webp"])
def test_transparency_is_kept(tmp_path, format) -> None:
    images = torch.rand(4, 32, 32, 4, generator=torch.Generator().manual_seed(0))
    images[..., :16, 3], images[..., 16:, 3] = 1, 0
    clip = load(save(images, tmp_path, Export(Fraction(8), format)))
    assert clip.mask[:, :, :12].max() < 0.1 and clip.mask[:, :, 20:].min() > 0.9


def test_a_gif_is_transparent_or_not_in_each_pixel(tmp_path) -> None:
    images = torch.full((3, 16, 16, 4), 0.6)
    images[0, 8:, :, 3], images[0, :8, :, 3] = 0.2, 0.9
    mask = load(save(images, tmp_path, Export(Fraction(8), "gif"))).mask
    assert mask[0, :8].max() == 0 and mask[0, 8:].min() == 1


def test_transparent_images_are_put_on_black_in_mp4(tmp_path) -> None:
    images = torch.ones(2, 32, 32, 4)
    images[..., 16:, 3] = 0.5
    back = load(save(images, tmp_path)).images
    assert back[..., :12, :].min() > 0.97 and (back[..., 20:, :] - 0.5).abs().max() < 0.03


@pytest.mark.parametrize("fps, total", [(8, 200), (12, 133), (15, 106), (24, 66), (30, 53), (50, 32)])
def test_gif_delays_add_up_to_the_rate(tmp_path, fps, total) -> None:
    delays = gif_delays(save(bars(16), tmp_path, Export(Fraction(fps), "gif")))
    assert len(delays) == 16 and sum(delays) == total
    assert max(delays) - min(delays) <= 1


@pytest.mark.parametrize("kind, fps", [("gif", 60), ("webp", 120)])
def test_frames_that_are_left_out_are_counted_in_a_warning(tmp_path, caplog, kind, fps) -> None:
    path = save(bars(60), tmp_path, Export(Fraction(fps), kind))
    with Image.open(path) as picture:
        left_out = 60 - picture.n_frames
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert 0 < left_out and f": {left_out} of 60 are left out. Lower fps" in warning


def test_a_gif_above_fifty_fps_keeps_its_speed_by_leaving_frames_out(tmp_path) -> None:
    delays = gif_delays(save(bars(60), tmp_path, Export(Fraction(60), "gif")))
    assert 98 <= sum(delays) <= 102 and min(delays) == 2


@pytest.mark.parametrize("fps, total", [(8, 2000), (15, 1066), (24, 666), (29.97, 533)])
def test_webp_durations_add_up_to_the_rate(tmp_path, fps, total) -> None:
    durations = webp_durations(save(bars(16), tmp_path, Export(Fraction(fps), "webp")))
    assert len(durations) == 16 and abs(sum(durations) - total) <= 1


@pytest.mark.parametrize("fps", [90, 91, 100, 120])
def test_a_webp_keeps_its_speed_where_browsers_would_slow_it_down(tmp_path, fps) -> None:
    durations = webp_durations(save(bars(50), tmp_path, Export(Fraction(fps), "webp")))
    assert min(durations) > 10 and abs(sum(durations) - 50_000 / fps) <= 11 and len(durations) >= 37


@pytest.mark.parametrize("plays, written", [(0, 0), (1, None), (4, 3)])
def test_a_gif_plays_as_often_as_asked(tmp_path, plays, written) -> None:
    data = save(bars(3), tmp_path, Export(Fraction(8), "gif", loop_count=plays)).read_bytes()
    at = data.find(b"NETSCAPE2.0")
    assert (None if at < 0 else struct.unpack_from("<H", data, at + 13)[0]) == written


@pytest.mark.parametrize("plays", [0, 1, 4])
def test_a_webp_plays_as_often_as_asked(tmp_path, plays) -> None:
    assert (
        Image.open(save(bars(3), tmp_path, Export(Fraction(8), "webp", loop_count=plays))).info["loop"]
        == plays
    )


@pytest.mark.parametrize("side", [64, 96])
def test_the_same_frames_give_the_same_mp4(tmp_path, side) -> None:
    coarse = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    images = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").movedim(1, -1)
    files = [export_video(images, tmp_path, "same", number, EIGHT).read_bytes() for number in range(1, 9)]
    assert len(set(files)) == 1


@pytest.mark.parametrize("format", FORMATS)
def test_higher_quality_makes_larger_and_truer_files(tmp_path, format) -> None:
    images = torch.stack([photo(128, 192).roll(8 * k, 1) * (0.5 + 0.1 * k) for k in range(6)])
    errors, sizes = [], []
    for quality in QUALITIES:
        path = save(images, tmp_path, Export(Fraction(8), format, quality))
        errors.append(((load(path, fps=8).images - images) ** 2).mean().item())
        sizes.append(path.stat().st_size)
    assert errors == sorted(errors, reverse=True)
    assert sizes == sorted(sizes)


def test_crf_goes_before_quality(tmp_path) -> None:
    images = torch.rand(4, 64, 64, 3)
    sizes = [save(images, tmp_path, Export(Fraction(8), crf=crf)).stat().st_size for crf in (-1, 18, 40)]
    assert sizes[0] == sizes[1] > sizes[2]
    with pytest.raises(ValueError, match="0 to 51 for mp4, not 60"):
        Export(Fraction(8), crf=60)


def test_an_existing_file_is_never_replaced(tmp_path) -> None:
    first = save(bars(3), tmp_path)
    before = first.read_bytes()
    assert [save(bars(4), tmp_path).name, save(bars(4), tmp_path).name] == [
        "clip_00002_.mp4",
        "clip_00003_.mp4",
    ]
    assert first.read_bytes() == before


def test_a_gif_takes_a_number_that_is_free_for_its_png_too(tmp_path) -> None:
    (tmp_path / "clip_00001_.png").write_bytes(b"mine")
    assert save(bars(3), tmp_path, Export(Fraction(8), "gif")).name == "clip_00002_.gif"
    assert (tmp_path / "clip_00001_.png").read_bytes() == b"mine"
    assert sorted(os.listdir(tmp_path)) == ["clip_00001_.png", "clip_00002_.gif", "clip_00002_.png"]


@pytest.mark.parametrize("rate, height, width", [(300, 64, 64), (8, 64, 16400), (8, 16, 16)])
def test_a_webm_that_av1_can_not_be_becomes_vp9(tmp_path, rate, height, width) -> None:
    path = save(torch.rand(3, height, width, 3), tmp_path, Export(Fraction(rate), "webm"))
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec.canonical_name == "vp9"
    assert load(path).images.shape == (3, height, width, 3)


def psnr(path: Path, images: torch.Tensor) -> list[float]:
    """Of each frame, in decibels."""
    errors = (load(path).images - images).square().mean(dim=(1, 2, 3))
    return (-10 * errors.log10()).tolist()


def test_a_lower_crf_of_webm_is_better_in_every_frame(tmp_path) -> None:
    grey = photo(128, 192).mean(-1, keepdim=True).expand(-1, -1, 3)  # halved chroma would hide the difference
    images = torch.stack([grey.roll(2 * k, 1) for k in range(8)])
    worst = {}
    for crf in (0, 1, 8, 15, 20):
        (tmp_path / str(crf)).mkdir()
        worst[crf] = min(
            psnr(save(images, tmp_path / str(crf), Export(Fraction(8), "webm", crf=crf)), images)
        )
    assert min(worst[0], worst[1]) >= worst[20] and min(worst.values()) > 40, worst


def test_writing_a_webm_leaves_the_environment_as_it_was(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("SVT_LOG", raising=False)
    save(torch.rand(2, 64, 64, 3), tmp_path, Export(Fraction(8), "webm"))
    assert "SVT_LOG" not in os.environ
