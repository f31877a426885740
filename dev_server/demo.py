"""The demo: a video and a prompt become two mp4 files, by the pack's own workflows in a real ComfyUI server.

Run by `python3 dev.py demo`, with the tiny family: models trained on a toy domain for this purpose.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import av

from .client import Client, Finished, NodeFailed, Prompt, PromptRefused
from .clip import SIZE
from .console import Console
from .host import ROOT, base_folder, host_folder
from .server import ComfyServer
from .set_up import clips, set_up

WORKFLOWS = ROOT / "workflows" / "api"
SEED = 1
VIDEO_PROMPT = "a green square on a cloudy navy background"
TEXT_PROMPT = "a red circle moving left on a cloudy navy background"


def nodes(prompt: Prompt, class_type: str) -> list[dict]:
    """The inputs of every node of a class, to be changed in place."""
    return [node["inputs"] for node in prompt.values() if node["class_type"] == class_type]


def read_workflow(name: str, text: str) -> Prompt:
    """An API prompt of the pack, with another prompt text and a fixed seed."""
    prompt = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    for sampler in nodes(prompt, "FAD_Sampler"):
        sampler["seed"] = SEED
        prompt[sampler["positive"][0]]["inputs"]["text"] = text
    return prompt


def video_to_video(clip: Path, workflow: str = "video-to-video") -> Prompt:
    prompt = read_workflow(workflow, VIDEO_PROMPT)
    for loader in nodes(prompt, "FAD_LoadVideoFrames"):
        loader |= {"file": clip.name, "size": "source"}
    return prompt


def text_to_video() -> Prompt:
    prompt = read_workflow("turbo-text-to-video", TEXT_PROMPT)
    for latent in nodes(prompt, "FAD_EmptyVideoLatent"):
        latent |= {"video_size": "custom", "width": SIZE, "height": SIZE}
    return prompt


def run(client: Client, title: str, prompt: Prompt) -> Finished:
    print(f"\n{title}", flush=True)
    console = Console()
    try:
        return client.run(prompt, console)
    finally:
        console.close()


def describe_video(path: Path) -> str:
    """Such as `256x256, 16 frames, 2.0 s at 8 fps`."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = sum(1 for _ in container.decode(stream))
        rate = float(stream.average_rate or 0)
        return f"{stream.width}x{stream.height}, {frames} frames, {frames / rate:.1f} s at {rate:g} fps"


def demo() -> None:
    base = base_folder()
    print("Tiny models and input clip", flush=True)
    set_up(base)
    clip = clips(base)[0]
    prompts = {
        f"Video to video: {clip.name} as '{VIDEO_PROMPT}'": video_to_video(clip),
        f"Turbo text to video: '{TEXT_PROMPT}'": text_to_video(),
    }
    print("Starting ComfyUI", flush=True)
    with ComfyServer(host_folder(), base) as server:
        results = {title: run(server.client, title, prompt) for title, prompt in prompts.items()}
    print(f"\nDone. The input was {clip}\n  {describe_video(clip)}")
    for title, finished in results.items():
        for path in (path for path in finished.files(base) if path.suffix == ".mp4"):
            print(f"{title}\n  {path}\n  {describe_video(path)}, made in {finished.seconds:.0f} s")
    print(
        f"\nThese models know coloured shapes of {SIZE}x{SIZE} pixels and nothing else; see tiny/README.md. For real models\n"
        "see 'Install it' in README.md."
    )


def main(arguments: list[str] | None = None) -> int:
    argparse.ArgumentParser("dev.py demo", description=__doc__).parse_args(arguments)
    try:
        demo()
    except KeyboardInterrupt:  # of which dev.py tells
        return 130
    except (NodeFailed, PromptRefused, OSError, RuntimeError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
