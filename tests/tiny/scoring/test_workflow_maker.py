"""Clips asked for through the pack's own workflow files."""

from __future__ import annotations

from pathlib import Path

from fast_animatediff.tests.tiny.made_clips import SIZE
from fast_animatediff.tiny.domain.measures import (
    psnr,
)
from fast_animatediff.tiny.domain.subjects import find_subject
from fast_animatediff.tiny.scoring.score_card import (
    Request,
    input_clip,
)
from fast_animatediff.tiny.scoring.workflow_maker import WorkflowMaker, read_clip, write_input
from fast_animatediff.tiny.shipped import MOTION_MODULE


def test_requests_become_the_packs_own_workflows(tmp_path: Path) -> None:
    maker = WorkflowMaker(None, tmp_path, SIZE)  # no server: only the prompts are looked at
    scenes, video = input_clip(0, SIZE)
    asked = scenes.attributes
    kinds = {
        node["class_type"]: node["inputs"] for node in maker.text_to_video(Request("a", asked, 1)).values()
    }
    assert kinds["FAD_Sampler"]["steps"] == 25 and kinds["FAD_Sampler"]["cfg"] == 7.5
    assert kinds["FAD_LoadMotionModule"]["motion_module"] == Path(MOTION_MODULE).name
    turbo = maker.text_to_video(Request("a", asked, 1, turbo=True))
    kinds = {node["class_type"]: node["inputs"] for node in turbo.values()}
    assert kinds["FAD_Sampler"]["steps"] == 8 and kinds["LoraLoaderModelOnly"]["strength_model"] == 0.8
    kinds = {
        node["class_type"]: node["inputs"]
        for node in maker.video_to_video(Request("a", asked, 1, video=video, strength=0.3)).values()
    }
    assert kinds["FAD_Sampler"]["strength"] == 0.3
    assert (tmp_path / "input" / kinds["FAD_LoadVideoFrames"]["file"]).is_file()


def test_the_input_video_is_what_was_drawn(tmp_path: Path) -> None:
    _, video = input_clip(1, SIZE)
    write_input(tmp_path / "clip.mp4", video)
    again = read_clip(tmp_path / "clip.mp4")
    assert again.shape == video.shape and psnr(again, video) > 27
    assert find_subject(again).colour == find_subject(video).colour
