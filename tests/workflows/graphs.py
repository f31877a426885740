"""The pack's workflow files, and what tests do with them: find a node by its title, make a run small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Graph = dict[str, Any]  # a UI file, schema 0.4
Prompt = dict[str, dict[str, Any]]  # an API prompt

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
API_NAMES = {
    "Video to Video": "video-to-video",
    "Text to Video": "text-to-video",
    "Turbo Video to Video": "turbo-video-to-video",
    "Turbo Text to Video": "turbo-text-to-video",
    "Text to Video Prompt Travel": "text-to-video-prompt-travel",
    "Text to Video Two Passes": "text-to-video-two-passes",
    "Text to Video Slow Motion": "text-to-video-slow-motion",
    "Text to Video GIF Loop": "text-to-video-gif-loop",
    "Video to Video ControlNet": "video-to-video-controlnet",
    "Video to Video Unsampling": "video-to-video-unsampling",
}
PREFIX = "AnimateDiff SD1.5 "  # of the files: the host's search for templates knows nothing but their names
TITLE_HEIGHT = 30.0  # LiteGraph draws a node's title above its position


def ui_file(name: str) -> Path:
    return FOLDER / f"{PREFIX}{name}.json"


def api_file(name: str) -> Path:
    return FOLDER / "api" / f"{API_NAMES[name]}.json"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def node_id(prompt: Prompt, title: str) -> str:
    """The id of the only node with a title."""
    (found,) = (key for key, node in prompt.items() if node["_meta"]["title"] == title)
    return found


def inputs(prompt: Prompt, title: str) -> dict[str, Any]:
    """The inputs of the only node with a title, to be changed in place."""
    return prompt[node_id(prompt, title)]["inputs"]


def video_to_video(seconds: float = 1.0, steps: int = 3, clip: str = "moving circle.mp4") -> Prompt:
    """The API prompt, small: the clip in its own size, int(steps * 0.7) steps."""
    prompt = read(api_file("Video to Video"))
    inputs(prompt, "Load Video Frames").update(file=clip, first_n_seconds=seconds, size="source")
    inputs(prompt, "AnimateDiff Sampler").update(steps=steps)
    return prompt


def turbo_text_to_video(frames: int = 4, steps: int = 1, size: int = 64) -> Prompt:
    """The API prompt, small: square, `size` pixels wide."""
    prompt = read(api_file("Turbo Text to Video"))
    inputs(prompt, "Empty Video Latent").update(
        video_size="custom", width=size, height=size, num_frames=frames
    )
    inputs(prompt, "AnimateDiff Sampler").update(steps=steps)
    return prompt


def add(prompt: Prompt, class_type: str, title: str = "", **values: Any) -> list:
    """Adds a node to a prompt; returns the link to its first output."""
    key = str(max(map(int, prompt)) + 1)
    prompt[key] = {"class_type": class_type, "inputs": values, "_meta": {"title": title or class_type}}
    return [key, 0]
