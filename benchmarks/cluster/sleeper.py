"""Requests that take a fixed time on a ComfyUI without models, and the programs of the fleet as a user runs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...dev_server.host import ROOT, host_folder

APP = "fal-ai/fast-animatediff"
TURBO = f"{APP}/turbo/text-to-video"
VIDEO = f"{APP}/turbo/video-to-video"
SECONDS = 300.0  # for anything, on a busy machine


def make_sleeper(base: Path) -> Path:
    """A folder with the pack, the sleeping nodes and no models."""
    (base / "models" / "checkpoints").mkdir(parents=True)
    (base / "custom_nodes").mkdir()
    (base / "custom_nodes" / "fast-animatediff").symlink_to(ROOT, target_is_directory=True)
    shutil.copytree(Path(__file__).with_name("extension"), base / "custom_nodes" / "fleet-sleep")
    return base


def write_workflows(folder: Path, seconds: float, **more: str | float) -> Path:
    """Settings whose workflows of both turbo endpoints sleep for so long in each step. more: other settings."""
    folder.mkdir(exist_ok=True)
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in more.items())
    tables = ""
    for endpoint, name in ((TURBO, "text.json"), (VIDEO, "video.json")):
        (folder / name).write_text(json.dumps(workflow(seconds, takes_video=endpoint == VIDEO)))
        tables += f'"{endpoint}" = "{name}"\n'
    (folder / "fast-animatediff-endpoints.toml").write_text(f"{lines}[workflows]\n{tables}")
    return folder


def workflow(seconds: float, takes_video: bool) -> dict[str, Any]:
    """The shipped one, with the sleeping node in the place of all that needs a model."""
    name = "turbo-video-to-video" if takes_video else "turbo-text-to-video"
    shipped = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text())
    nodes = {node["_meta"]["title"]: node | {"id": key} for key, node in shipped.items()}
    notes = ["Prompt", "Negative Prompt"] + ([] if takes_video else ["Empty Video Latent"])
    prompt = {nodes[title].pop("id"): nodes[title] | {"class_type": "FleetNote"} for title in notes}
    for node in prompt.values():
        node["inputs"] = {key: value for key, value in node["inputs"].items() if not isinstance(value, list)}
    inputs = {"seed": 0, "steps": 1, "cfg": 1.0, "strength": 1.0, "seconds": seconds}
    if takes_video:
        load = nodes["Load Video Frames"]
        inputs["images"] = [load["id"], 0]
        prompt[load.pop("id")] = load
    prompt["sleep"] = {
        "class_type": "FleetSleep",
        "inputs": inputs,
        "_meta": {"title": "AnimateDiff Sampler"},
    }
    export = {**nodes["Export Video"]["inputs"], "images": ["sleep", 0]}
    export = {
        key: value for key, value in export.items() if not isinstance(value, list) or value[0] in prompt
    }
    prompt["export"] = {"class_type": "FAD_ExportVideo", "inputs": export, "_meta": {"title": "Export Video"}}
    return prompt


def line(name: str | None = None, **given: Any) -> dict[str, Any]:
    """A line of a manifest for the sleeping turbo endpoint."""
    body = {"prompt": "a red circle", "num_inference_steps": 2, "seed": 1} | given
    return {"endpoint": TURBO, "input": body} | ({"name": name} if name else {})


def write_manifest(file: Path, lines: Sequence[Mapping[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return file


def command(module: str, *arguments: str | Path) -> list[str]:
    runner = ROOT / "bootstrap" / "run_in_pack.py"
    return [sys.executable, str(runner), f"fleet.{module}", *map(str, arguments)]


def environment(base: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    env = {"COMFYUI_PATH": str(host_folder()), "FAD_DEV_BASE": str(base)}
    return {**os.environ, "OMP_NUM_THREADS": "1", **(more or {}), **env}


def run(
    module: str, *arguments: str | Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(module, *arguments), env=env, capture_output=True, text=True, timeout=SECONDS
    )


def events(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """What a program said with --json."""
    return [json.loads(each) for each in done.stdout.splitlines()]


def report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    [found] = [event for event in events(done) if event["event"] == "report"]
    return found
