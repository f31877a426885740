"""The video nodes as the host runs them: files in its folders, its types in and out."""

from __future__ import annotations

import io
import os
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from PIL import Image

import comfy.model_management
from comfy.cli_args import args
from comfy_api.v0_0_2 import InputImpl, Types
from comfy_api.v0_0_2 import io as host_io
from fast_animatediff.nodes.export_video import ExportVideo
from fast_animatediff.nodes.load_video import LoadVideoFrames, SampleVideoFrames
from fast_animatediff.nodes.load_video_latents import LoadVideoLatents

WHOLE = {"first_n_seconds": 0.0, "fps": 0.0, "start_seconds": 0.0, "size": "source", "max_frames": 0}
EXPORT = {
    "fps": 8.0,
    "format": "mp4",
    "quality": "high",
    "filename_prefix": "video/clip",
    "crf": -1,
    "ping_pong": False,
    "loop_count": 0,
}

pytestmark = pytest.mark.usefixtures("folders")


def grey(frames: int, size: int = 64) -> torch.Tensor:
    """Frames whose brightness is their number: k * 8 levels."""
    levels = torch.arange(frames) * 8 / 255
    return levels[:, None, None, None].expand(frames, size, size, 3).contiguous()


def levels(images: torch.Tensor) -> list[int]:
    return [round(level) for level in (images.float().mean((1, 2, 3)) * 255 / 8).tolist()]


def export(images: torch.Tensor, hidden: dict | None = None, **options) -> host_io.NodeOutput:
    node = ExportVideo.PREPARE_CLASS_CLONE({"hidden_inputs": hidden or {}})
    return node.execute(images, **{**EXPORT, **options})


def clip_in_input(
    folders: Path, frames: int = 24, fps: float = 24.0, name: str = "clip.mp4", **options
) -> str:
    """A clip of grey frames in the input folder."""
    suffix = Path(name).suffix[1:]
    export(grey(frames), fps=fps, format=suffix, quality="maximum", filename_prefix="made", **options)
    made = max((folders / "output").glob(f"made_*.{suffix}"))
    made.rename(folders / "input" / name)
    return name


@pytest.mark.parametrize("node", [LoadVideoFrames, SampleVideoFrames, LoadVideoLatents, ExportVideo])
def test_every_input_is_explained_and_every_node_can_be_found(node) -> None:
    schema = node.GET_SCHEMA()
    assert schema.description and schema.search_aliases and schema.category == "Fast AnimateDiff/video"
    for entry in schema.inputs:
        assert entry.tooltip and entry.tooltip[0].isupper() and entry.tooltip.endswith("."), entry.id
    assert all(output.tooltip for output in schema.outputs)
    assert (Path(__file__).parents[2] / "nodes/web/docs" / f"{schema.node_id}.md").is_file()


def test_the_order_of_widgets_is_the_one_saved_in_workflows() -> None:
    shared = ["first_n_seconds", "fps", "start_seconds", "size", "max_frames"]
    assert [i.id for i in LoadVideoFrames.GET_SCHEMA().inputs] == ["file", *shared]
    assert [i.id for i in LoadVideoLatents.GET_SCHEMA().inputs] == ["file", *shared, "vae"]
    assert [i.id for i in SampleVideoFrames.GET_SCHEMA().inputs] == ["video", *shared]
    assert [i.id for i in ExportVideo.GET_SCHEMA().inputs] == ["images", *EXPORT, "audio"]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "clip.gif", "clip.webp"])
def test_a_clip_goes_out_and_comes_back(folders, name) -> None:
    file = clip_in_input(folders, frames=8, fps=8, name=name)
    images, fps, count, audio, mask = LoadVideoFrames.execute(file, **{**WHOLE, "fps": 8.0}).args
    assert levels(images) == list(range(8))
    assert (fps, count, audio) == (8.0, 8, None)
    assert len(mask) == 8


def test_the_defaults_take_three_seconds_at_eight_fps_in_the_area_of_the_model(folders) -> None:
    file = clip_in_input(folders, frames=120, fps=30)
    defaults = {entry.id: entry.default for entry in LoadVideoFrames.GET_SCHEMA().inputs[1:]}
    images, fps, count, _, _ = LoadVideoFrames.execute(file, **defaults).args
    assert (count, fps, tuple(images.shape)) == (24, 8.0, (24, 512, 512, 3))


def test_images_have_the_type_that_the_host_asks_for(folders) -> None:
    file = clip_in_input(folders)
    assert LoadVideoFrames.execute(file, **WHOLE).args[0].dtype == torch.float32
    args.fp16_intermediates = True
    try:
        assert LoadVideoFrames.execute(file, **WHOLE).args[0].dtype == torch.float16
    finally:
        args.fp16_intermediates = False


def test_only_what_moves_is_listed(folders) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    for name in ("still.png", "still.webp", "photo.jpg"):
        frames[0].save(folders / "input" / name)
    for name in ("moving.png", "moving.webp", "moving.gif"):
        frames[0].save(folders / "input" / name, save_all=True, append_images=frames[1:], duration=100)
    for name in ("a.MP4", "b.mov", "notes.txt", "song.mp3"):
        (folders / "input" / name).write_bytes(b"")
    (folders / "input" / "folder.mp4").mkdir()
    profile = {"icc_profile": os.urandom(5000)}  # which a PNG stores before it says that it moves
    frames[0].save(folders / "input" / "large.png", save_all=True, append_images=frames[1:], **profile)
    listed = LoadVideoFrames.define_schema().inputs[0].options
    assert listed == ["a.MP4", "b.mov", "large.png", "moving.gif", "moving.png", "moving.webp"]


def test_every_kind_of_video_that_can_be_loaded_is_listed(folders) -> None:
    names = [f"clip.{kind}" for kind in "3gp avi flv gif m2ts m4v mkv mov mp4 mts ts webm".split()]
    for name in names:
        (folders / "input" / name).write_bytes(b"")
    assert LoadVideoFrames.define_schema().inputs[0].options == names


def test_links_in_the_input_folder_do_no_harm(folders) -> None:
    """One that leads to itself, one that leads nowhere, and those out of the folder, which would be refused."""
    file = clip_in_input(folders)
    for place in (folders, folders / "output"):
        (place / "elsewhere.mp4").write_bytes((folders / "input" / file).read_bytes())
    for name, target in (
        ("loop.mp4", "loop.mp4"),
        ("gone.png", "nothing.png"),
        ("out.mp4", "../elsewhere.mp4"),
        ("output.mp4", "../output/elsewhere.mp4"),
    ):
        (folders / "input" / name).symlink_to(target)
    (folders / "input" / "inside.mp4").symlink_to(file)
    assert LoadVideoFrames.define_schema().inputs[0].options == [file, "inside.mp4"]
    assert LoadVideoFrames.validate_inputs("loop.mp4") is not True


def test_a_picture_is_opened_once_however_often_the_list_is_made(folders) -> None:
    path = folders / "input" / "sticker.png"
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    assert LoadVideoFrames.define_schema().inputs[0].options == ["sticker.png"]
    opened: list[str] = []
    sys.addaudithook(lambda event, found: opened.append(str(found[0])) if event == "open" else None)
    LoadVideoFrames.define_schema()
    assert str(path) not in opened
    frames[0].save(path)
    os.utime(path, ns=(1, 1))
    assert LoadVideoFrames.define_schema().inputs[0].options == []


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg", ".bmp", ".tiff", ".avif"])
@pytest.mark.parametrize("name", ["photo{}", "photo{}.mp4"])
@pytest.mark.parametrize("node", [LoadVideoFrames, LoadVideoLatents])
def test_a_still_picture_chosen_by_hand_is_refused_with_a_sentence(folders, node, name, suffix) -> None:
    name = name.format(suffix)
    Image.new("RGB", (16, 16)).save(folders / "input" / name, format=Image.registered_extensions()[suffix])
    assert node.validate_inputs(name) == (
        f"{name} is a still picture. Choose a video or animation, or use Load Image."
    )


def test_a_changed_file_is_loaded_again(folders) -> None:
    file = clip_in_input(folders)
    before = LoadVideoFrames.fingerprint_inputs(file, **WHOLE)
    assert before == LoadVideoFrames.fingerprint_inputs(file, **WHOLE)
    path = folders / "input" / file
    path.write_bytes(path.read_bytes() + b"\0")
    assert LoadVideoFrames.fingerprint_inputs(file, **WHOLE) != before


def test_a_clip_of_the_output_folder_can_be_chosen_by_its_annotation(folders) -> None:
    export(grey(4), filename_prefix="made")
    assert LoadVideoFrames.validate_inputs("made_00001_.mp4 [output]") is True
    assert levels(LoadVideoFrames.execute("made_00001_.mp4 [output]", **WHOLE).args[0]) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "name", ["../secret.mp4", "/etc/hostname", "a/../../secret.mp4", "secret.mp4 [output]/.."]
)
def test_files_outside_the_folders_are_not_opened(folders, name) -> None:
    (folders / "secret.mp4").write_bytes(b"secret")
    message = LoadVideoFrames.validate_inputs(name)
    assert message is not True and str(folders) not in message
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        LoadVideoFrames.execute(name, **WHOLE)
    assert str(folders) not in str(caught.value)


def test_links_out_of_the_folders_are_not_followed(folders) -> None:
    file = clip_in_input(folders)
    (folders / "input" / file).rename(folders / "elsewhere.mp4")
    (folders / "input" / "link.mp4").symlink_to(folders / "elsewhere.mp4")
    (folders / "input" / "linked").symlink_to(folders)
    for name in ("link.mp4", "linked/elsewhere.mp4"):
        assert LoadVideoFrames.validate_inputs(name) is not True
        with pytest.raises(ValueError):
            LoadVideoFrames.execute(name, **WHOLE)


def test_a_missing_file_is_named_without_its_folder(folders) -> None:
    for name, folder in (("gone.mp4", "input"), ("gone.mp4 [output]", "output"), ("gone.mp4 [temp]", "temp")):
        assert LoadVideoFrames.validate_inputs(name).startswith(
            f"gone.mp4 is not in ComfyUI's {folder} folder"
        )


def video_of(folders: Path, kind: str) -> object:
    path = folders / "input" / clip_in_input(folders)
    if kind == "file":
        return InputImpl.VideoFromFile(str(path))
    if kind == "buffer":
        return InputImpl.VideoFromFile(io.BytesIO(path.read_bytes()))
    audio = {"waveform": torch.rand(1, 2, 44100), "sample_rate": 44100}
    return InputImpl.VideoFromComponents(
        Types.VideoComponents(images=grey(24), audio=audio, frame_rate=Fraction(24))
    )


@pytest.mark.parametrize("kind", ["file", "buffer", "frames"])
def test_frames_are_sampled_from_every_kind_of_video(folders, kind) -> None:
    images, fps, count, audio, _ = SampleVideoFrames.execute(
        video_of(folders, kind), **{**WHOLE, "fps": 8.0}
    ).args
    assert levels(images) == [0, 3, 6, 9, 12, 15, 18, 21]
    assert (fps, count) == (8.0, 8)
    assert (audio is None) == (kind != "frames")


@pytest.mark.parametrize("kind", ["file", "buffer"])
@pytest.mark.parametrize(
    "start, length, expected",
    [(0.5, 0.25, [12, 15]), (0.5, 0, [12, 15, 18, 21]), (-0.5, 0, [12, 15, 18, 21])],
)
def test_trims_of_the_host_are_honoured(folders, kind, start, length, expected) -> None:
    trimmed = video_of(folders, kind).as_trimmed(start, length, strict_duration=False)
    assert levels(SampleVideoFrames.execute(trimmed, **{**WHOLE, "fps": 8.0}).args[0]) == expected


def test_a_trim_and_a_start_add_up(folders) -> None:
    trimmed = video_of(folders, "file").as_trimmed(0.25, 0.5, strict_duration=False)
    options = {**WHOLE, "fps": 24.0, "start_seconds": 0.25, "first_n_seconds": 3.0}
    assert levels(SampleVideoFrames.execute(trimmed, **options).args[0]) == [12, 13, 14, 15, 16, 17]
    with pytest.raises(ValueError, match="start_seconds is 0.5, but the video was trimmed to 0.5 s"):
        SampleVideoFrames.execute(trimmed, **{**options, "start_seconds": 0.5})


def test_a_video_that_is_not_a_local_file_is_not_opened() -> None:
    with pytest.raises(FileNotFoundError):
        SampleVideoFrames.execute(InputImpl.VideoFromFile("http://127.0.0.1:9/clip.mp4"), **WHOLE)


def test_sound_goes_through_the_nodes(folders) -> None:
    sound = {
        "waveform": 0.3 * torch.sin(torch.arange(96000) / 20)[None, None].expand(1, 2, -1),
        "sample_rate": 48000,
    }
    file = clip_in_input(folders, frames=48, audio=sound)
    audio = LoadVideoFrames.execute(
        file, **{**WHOLE, "fps": 8.0, "start_seconds": 0.5, "first_n_seconds": 1.0}
    ).args[3]
    assert audio["waveform"].shape == (1, 2, 48000)
    assert (audio["waveform"] - sound["waveform"][..., 24000:72000]).abs().mean() < 0.01
    again = export(grey(8), audio=audio)[0].get_components()
    assert again.audio["waveform"].shape[-1] >= 48000


def test_no_sound_is_passed_on_as_no_sound(folders) -> None:
    audio = LoadVideoFrames.execute(clip_in_input(folders), **WHOLE).args[3]
    assert export(grey(8), audio=audio)[0].get_components().audio is None


def test_too_many_frames_for_the_memory_are_refused_before_decoding(folders) -> None:
    file = clip_in_input(folders, frames=200, fps=1)
    with pytest.raises(ValueError, match="more than the limit of 10,000"):
        LoadVideoFrames.execute(file, **{**WHOLE, "fps": 120.0})


@pytest.mark.parametrize("node", [LoadVideoFrames, SampleVideoFrames])
def test_more_images_than_fit_are_refused_with_the_number_that_fits(folders, node, monkeypatch) -> None:
    path = folders / "input" / clip_in_input(folders, frames=48)
    clip = path.name if node is LoadVideoFrames else InputImpl.VideoFromFile(str(path))
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda *_: 5 * 64 * 64 * 3 * 4)
    with pytest.raises(ValueError, match=r"16 frames of 64x64 need .* There is room for 5\. Lower"):
        node.execute(clip, **{**WHOLE, "fps": 8.0})
    assert len(node.execute(clip, **{**WHOLE, "fps": 8.0, "max_frames": 5}).args[0]) == 5
