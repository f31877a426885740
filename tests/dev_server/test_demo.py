from __future__ import annotations

import json
from pathlib import Path

from fast_animatediff.dev_server.client import Prompt
from fast_animatediff.dev_server.demo import WORKFLOWS, text_to_video, video_to_video


def changes(name: str, prompt: Prompt) -> set[str]:
    """`class_type.input` for all that differs from the workflow file."""
    original = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    assert original.keys() == prompt.keys()
    return {
        f"{node['class_type']}.{key}"
        for node_id, node in original.items()
        for key, value in node["inputs"].items()
        if prompt[node_id]["inputs"][key] != value
    }


def test_the_demo_changes_nothing_of_the_video_workflow_but_text_seed_file_and_size() -> None:
    changed = changes("video-to-video", video_to_video(Path("some clip.mp4")))
    assert changed == {
        "CLIPTextEncode.text",
        "FAD_Sampler.seed",
        "FAD_LoadVideoFrames.file",
        "FAD_LoadVideoFrames.size",
    }


def test_the_demo_changes_nothing_of_the_turbo_workflow_but_text_seed_and_size() -> None:
    assert changes("turbo-text-to-video", text_to_video()) == {
        "CLIPTextEncode.text",
        "FAD_Sampler.seed",
        "FAD_EmptyVideoLatent.video_size",
        "FAD_EmptyVideoLatent.width",
        "FAD_EmptyVideoLatent.height",
    }


def test_the_negative_prompt_stays_as_it_is() -> None:
    texts = [node["inputs"]["text"] for node in text_to_video().values() if "text" in node["inputs"]]
    assert sum("bad quality" in text for text in texts) == 1 and len(texts) == 2
