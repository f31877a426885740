"""What is said of a clip before it is loaded is what loading gives."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from clips import WIDTH, constant, write_video, write_webp
from PIL import Image

from fast_animatediff.video import FIT, Selection, describe_clip, load_clip, open_source, write_preview

SELECTIONS = [
    Selection(Fraction(8), Fraction(3)),
    Selection(Fraction(8)),
    Selection(Fraction(0)),
    Selection(Fraction(30), Fraction(1), start=Fraction(1, 2)),
    Selection(Fraction(12), max_frames=5),
    Selection(Fraction(0), Fraction(1, 5), start=Fraction(1, 4)),  # from the middle of a frame
]


def clip_of(folder: Path, suffix: str) -> Path:
    """Two seconds at 10 frames per second."""
    path = folder / f"clip{suffix}"
    if suffix == ".webp":
        return write_webp(path, [100] * 20)
    if suffix == ".png":
        frames = [Image.new("RGB", (80, 16), (k * 9, 0, 0)) for k in range(20)]
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
        return path
    return write_video(path, constant(Fraction(10), Fraction(2)))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".gif", ".webp", ".png"])
@pytest.mark.parametrize("selection", SELECTIONS)
def test_the_frames_that_are_announced_are_those_that_are_loaded(tmp_path, suffix, selection) -> None:
    path = str(clip_of(tmp_path, suffix))
    with open_source(path, "clip") as source:
        told = describe_clip(source, selection, FIT)
    with open_source(path, "clip") as source:
        clip = load_clip(source, selection, FIT)
    assert (told.width, told.height, told.duration) == (80, 16, 2)
    assert (told.frame_height, told.frame_width, told.fps) == (*clip.images.shape[1:3], clip.fps)
    untold = not selection.fps and suffix in (".mkv", ".webm")  # Matroska does not say how many frames it has
    assert told.frames == (None if untold else len(clip.images))


@pytest.mark.parametrize("delays", [[0] * 8, [10] * 8, [10, 10, 10, 40, 200, 10, 20, 20], [500]])
@pytest.mark.parametrize("selection", SELECTIONS[:3])
def test_a_gif_with_delays_that_browsers_make_longer_is_announced_as_it_plays(
    tmp_path, delays, selection
) -> None:
    path = tmp_path / "clip.gif"
    first, *rest = (Image.new("RGB", (80, 16), (k * 9, 0, 0)) for k in range(len(delays)))
    first.save(path, save_all=True, append_images=rest, duration=delays)
    with open_source(str(path), "clip") as source:
        told = describe_clip(source, selection, FIT)
    with open_source(str(path), "clip") as source:
        clip = load_clip(source, selection, FIT)
    assert (told.frames, told.fps) == (len(clip.images), clip.fps)
    assert told.duration == Fraction(sum(delay if delay > 10 else 100 for delay in delays), 1000)


def test_a_description_decodes_no_more_than_the_first_frame(tmp_path, monkeypatch) -> None:
    path = write_webp(tmp_path / "clip.webp", [40] * 12)
    with open_source(str(path), "clip") as source:
        monkeypatch.setattr(source, "frames", lambda *_: pytest.fail("frames were read"))
        assert describe_clip(source, Selection(Fraction(25)), "source").frames == 12


@pytest.mark.parametrize("suffix", [".mkv", ".gif", ".webp", ".png"])
def test_a_preview_of_any_clip_plays_as_fast_as_the_clip(tmp_path, suffix) -> None:
    preview = tmp_path / "preview.mp4"
    preview.write_bytes(b"an older one")
    with open_source(str(clip_of(tmp_path, suffix)), "clip") as source:
        write_preview(source, preview)
    with open_source(str(preview), "preview") as source:
        assert source.duration == 2
        assert source.width / source.height == pytest.approx(WIDTH / 16, rel=0.1)
        assert source.audio(Fraction(0), Fraction(1)) is None
    assert {path.name for path in tmp_path.iterdir()} == {"preview.mp4", f"clip{suffix}"}


def test_a_preview_that_fails_leaves_the_older_one(tmp_path) -> None:
    preview = tmp_path / "preview.mp4"
    preview.write_bytes(b"an older one")

    def cancel(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        open_source(str(clip_of(tmp_path, ".gif")), "clip") as source,
    ):
        write_preview(source, preview, cancel)
    assert preview.read_bytes() == b"an older one"
    assert len(list(tmp_path.iterdir())) == 2
