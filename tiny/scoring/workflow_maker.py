"""Makes the clips of a score card through a ComfyUI server, by the pack's own workflow files, as a user would."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from ...dev_server.client import Client, Prompt
from ...dev_server.demo import nodes, read_workflow
from ..domain.edges import HIGH, LOW
from ..shipped import EDGE_CONTROLNET, MOTION_LORA_OF
from .score_card import FRAMES, Request

FPS = 8


class WorkflowMaker:
    """A Maker. base: the server's base directory. size: side of the clips in pixels."""

    def __init__(self, client: Client, base: Path, size: int) -> None:
        self.client, self.base, self.size = client, base, size

    def __call__(self, request: Request) -> Tensor:
        prompt = self.video_to_video(request) if request.video is not None else self.text_to_video(request)
        for apply in nodes(prompt, "FAD_ApplyMotionModule"):
            apply["strength"] = request.motion_strength
            if request.motion_lora:
                apply["motion_lora"] = ["motion lora", 0]
        if request.motion_lora:
            inputs = {
                "motion_lora": Path(MOTION_LORA_OF[request.motion_lora]).name,
                "strength": request.lora_strength,
            }
            prompt["motion lora"] = {"class_type": "FAD_MotionLora", "inputs": inputs}
        for sampler in nodes(prompt, "FAD_Sampler"):
            sampler["seed"] = request.seed
        return self.run(prompt)

    def run(self, prompt: Prompt) -> Tensor:
        """The clip that a prompt writes."""
        finished = self.client.run(prompt, timeout=1800)
        return read_clip(next(path for path in finished.files(self.base) if path.suffix == ".mp4"))

    def text_to_video(self, request: Request) -> Prompt:
        prompt = read_workflow("turbo-text-to-video" if request.turbo else "text-to-video", request.caption)
        for latent in nodes(prompt, "FAD_EmptyVideoLatent"):
            latent |= {"video_size": "custom", "width": self.size, "height": self.size, "num_frames": FRAMES}
        return prompt

    def video_to_video(self, request: Request) -> Prompt:
        prompt = read_workflow("video-to-video", request.caption)
        name = f"score {hashlib.sha256(request.video.numpy().tobytes()).hexdigest()[:12]}.mp4"
        write_input(self.base / "input" / name, request.video)
        for loader in nodes(prompt, "FAD_LoadVideoFrames"):
            loader |= {
                "file": name,
                "size": "source",
                "first_n_seconds": len(request.video) / FPS,
                "fps": FPS,
            }
        for sampler in nodes(prompt, "FAD_Sampler"):
            sampler["strength"] = request.strength
        if request.edges:
            add_edges(prompt)
        return prompt


def add_edges(prompt: Prompt) -> None:
    """Core's nodes for a ControlNet that sees the edges of the video's frames, in the API prompt of video to video."""
    [loader] = [key for key, node in prompt.items() if node["class_type"] == "FAD_LoadVideoFrames"]
    [sampler] = nodes(prompt, "FAD_Sampler")
    canny = {"image": [loader, 0], "low_threshold": LOW, "high_threshold": HIGH}
    apply = {
        "positive": sampler["positive"],
        "negative": sampler["negative"],
        "control_net": ["controlnet", 0],
        "image": ["edges", 0],
        "strength": 1.0,
        "start_percent": 0.0,
        "end_percent": 1.0,
    }
    prompt["edges"] = {"class_type": "Canny", "inputs": canny}
    name = {"control_net_name": Path(EDGE_CONTROLNET).name}
    prompt["controlnet"] = {"class_type": "ControlNetLoader", "inputs": name}
    prompt["apply controlnet"] = {"class_type": "ControlNetApplyAdvanced", "inputs": apply}
    sampler |= {"positive": ["apply controlnet", 0], "negative": ["apply controlnet", 1]}


def write_input(path: Path, clip: Tensor) -> None:
    """A clip (f, 3, h, w) in 0..1 as an mp4 of FPS frames a second."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS), options={"crf": "8", "threads": "1"})
        stream.height, stream.width = clip.shape[2:]
        stream.pix_fmt = "yuv420p"
        for frame in (clip * 255).round().byte().movedim(1, -1).numpy():
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def read_clip(path: Path) -> Tensor:
    """A video file as (f, 3, h, w) in 0..1."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return torch.from_numpy(np.stack(frames)).movedim(-1, 1).float() / 255
