"""Fills a request into an API prompt: its values go to the nodes whose titles the endpoints know."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..protocol.schemas import ENDPOINTS, Endpoint, FromVideo, ImageSize, Request
from ..protocol.settings import Settings
from .client import Event, Prompt

FOLDER = Path(__file__).resolve().parents[2] / "workflows" / "api"
SAMPLER, LOADER, LATENT, APPLY, EXPORT = (
    "AnimateDiff Sampler",
    "Load Video Frames",
    "Empty Video Latent",
    "Apply Motion Module",
    "Export Video",
)
PHASES = {LOADER: "decode", SAMPLER: "sampling", EXPORT: "encode"}
SAID = {"decode": "Decoding the video", "sampling": "Sampling", "encode": "Encoding the video"}
EXPORTS = ("FAD_ExportVideo", "FAD_DecodeAndExport")  # which name files as `Filled.output` says
# Where a field's value goes: the title of the node, then its inputs.
PLACES: Mapping[str, tuple[str, ...]] = {
    "prompt": ("Prompt", "text"),
    "negative_prompt": ("Negative Prompt", "text"),
    "num_frames": (LATENT, "num_frames"),
    "video_size": (LATENT, "video_size", "width", "height"),
    "video_url": (LOADER, "file"),
    "first_n_seconds": (LOADER, "first_n_seconds"),
    "num_inference_steps": (SAMPLER, "steps"),
    "strength": (SAMPLER, "strength"),
    "guidance_scale": (SAMPLER, "cfg"),
    "seed": (SAMPLER, "seed"),
    "motions": (APPLY,),
}
MOTION_LORAS = {
    "zoom-out": "v2_lora_ZoomOut.ckpt",
    "zoom-in": "v2_lora_ZoomIn.ckpt",
    "pan-left": "v2_lora_PanLeft.ckpt",
    "pan-right": "v2_lora_PanRight.ckpt",
    "tilt-up": "v2_lora_TiltUp.ckpt",
    "tilt-down": "v2_lora_TiltDown.ckpt",
}
PRESETS = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}
SEEDS = 2**63  # others are taken modulo this: samplers add to the seed, and torch takes none from 2**64 on
MULTIPLE, SHORTEST, LONGEST = 8, 64, 4096  # what Empty Video Latent takes


@dataclass(frozen=True)
class Filled:
    """A prompt ready to be queued, the id of the node that exports the video, phases by node id, and notes for the log."""

    prompt: Prompt
    export_node: str
    phases: Mapping[str, str]  # of node ids: decode, sampling or encode
    notes: tuple[str, ...]
    seed: int
    prefix: str | None = None  # of the file's name, as the workflow has it

    def set_video(self, video_file: str) -> None:
        """video_file: as Load Video Frames takes it, such as "clip.mp4" or "folder/clip.mp4 [output]"."""
        [loader] = [node for node, phase in self.phases.items() if phase == "decode"]
        self.prompt[loader]["inputs"]["file"] = video_file

    def name_output(self, name: str) -> None:
        """Makes the file name unique: the host answers an equal prompt from its cache, with a file that may be gone."""
        if self.prefix is not None:
            self.prompt[self.export_node]["inputs"]["filename_prefix"] = f"{self.prefix}-{name}"

    def line(self, event: Event) -> str | None:
        """What the log says of an event; nodes other than those of the phases take no time worth telling."""
        phase = self.phases.get(event.node_id or "")
        if phase == "sampling" and event.total:
            return f"Sampling: step {event.step} of {event.total}"
        return SAID[phase] if phase and not event.total else None

    def output(self, number: int) -> dict[str, str] | None:
        """The file that the prompt writes if those with lower numbers are taken; None if that can't be predicted."""
        node = self.prompt[self.export_node]
        prefix = node["inputs"].get("filename_prefix")
        if node["class_type"] not in EXPORTS or not isinstance(prefix, str) or "%" in prefix:
            return None
        subfolder, _, name = prefix.rpartition("/")
        filename = f"{name}_{number:05}_.{node['inputs'].get('format')}"
        return {"filename": filename, "subfolder": subfolder, "type": "output"}


def load_workflows(settings: Settings) -> dict[str, Prompt]:
    """The checked API prompts by endpoint id. Raises ValueError with the file and what it lacks."""
    workflows = {}
    for endpoint in ENDPOINTS.values():
        path = settings.workflows.get(endpoint.id, FOLDER / f"{endpoint.workflow}.json")
        try:
            workflow = json.loads(path.read_text(encoding="utf-8-sig"))
            check(endpoint, workflow)
        except OSError as error:
            raise ValueError(f"{path.name}, the workflow of {endpoint.id}: {error.strerror}.") from None
        except ValueError as error:
            raise ValueError(f"{path.name}, the workflow of {endpoint.id}: {error}") from None
        workflows[endpoint.id] = workflow
    return workflows


def check(endpoint: Endpoint, workflow: Any) -> None:
    """Raises ValueError with the title or the input that the endpoint needs and the workflow lacks."""
    if isinstance(workflow, dict) and isinstance(workflow.get("nodes"), list):
        raise ValueError(
            "this is a workflow for the page. Open it there and save it with File > Export (API)."
        )
    if not isinstance(workflow, dict) or not all(map(_is_node, workflow.values())):
        raise ValueError("this is not an API prompt, in which every node has class_type and inputs.")
    for field, (title, *inputs) in _places(endpoint).items():
        node = workflow[_node_id(workflow, title, field)]
        for name in inputs:
            if isinstance(node["inputs"].get(name, []), list):
                state = "is linked to another node" if name in node["inputs"] else "is missing"
                raise ValueError(f"input {name} of '{title}' {state}; {field} of the request goes there.")
    _node_id(workflow, EXPORT, "video")


def fill(endpoint: Endpoint, workflow: Prompt, request: Request, settings: Settings) -> Filled:
    """A copy of a checked workflow with the request's values; of its video, `Filled.set_video` sets the file."""
    prompt = {key: {**node, "inputs": dict(node["inputs"])} for key, node in workflow.items()}
    ids = {_title(node): key for key, node in prompt.items()}
    notes = []
    values: dict[str, tuple[Any, ...]] = {
        field: (getattr(request, field),) for field in _places(endpoint) if field != "fps"
    }
    seed = request.seed or 0
    values["seed"] = (seed % SEEDS,)
    # Below 1 the host would follow the negative prompt; diffusers, which the service uses, only guides above 1.
    values["guidance_scale"] = (max(1.0, request.guidance_scale),)
    values["fps"] = (request.fps,)
    if isinstance(request, FromVideo):
        notes.append(_steps_note(request.num_inference_steps, request.strength))
    else:
        width, height = frame_size(request.video_size, settings.max_pixels)
        values["video_size"] = ("custom", width, height)
        notes += _size_notes(request.video_size, width, height, settings.max_pixels)
    for field, (title, *inputs) in _places(endpoint).items():
        prompt[ids[title]]["inputs"].update(zip(inputs, values[field], strict=False))
    export = prompt[ids[EXPORT]]["inputs"]
    if not isinstance(export.get("fps", []), list):
        export["fps"] = request.fps
    if motions := getattr(request, "motions", ()):
        files = MOTION_LORAS | settings.motion_loras
        _add_motions(prompt, ids[APPLY], [files[motion] for motion in motions])
    phases = {ids[title]: phase for title, phase in PHASES.items() if title in ids}
    prefix = export.get("filename_prefix")
    prefix = prefix if isinstance(prefix, str) else None
    return Filled(prompt, ids[EXPORT], phases, tuple(notes), seed, prefix)


def frame_size(size: ImageSize | str, max_pixels: int) -> tuple[int, int]:
    """The nearest size that can be rendered: sides are multiples of 8 from 64 to 4096, the area at most max_pixels."""
    width, height = PRESETS[size] if isinstance(size, str) else (size.width, size.height)
    scale = min(1.0, math.sqrt(max_pixels / (width * height)), LONGEST / max(width, height))
    nearest = math.floor if scale < 1 else round
    short, long = sorted(
        max(SHORTEST, nearest(side * scale / MULTIPLE) * MULTIPLE) for side in (width, height)
    )
    long = min(long, LONGEST, max(SHORTEST, max_pixels // short // MULTIPLE * MULTIPLE))
    return (short, long) if width < height else (long, short)


def _places(endpoint: Endpoint) -> dict[str, tuple[str, ...]]:
    places = {field: PLACES[field] for field in endpoint.request.model_fields if field in PLACES}
    return places | {"fps": (LOADER if endpoint.takes_video else EXPORT, "fps")}


def _is_node(node: Any) -> bool:
    return isinstance(node, dict) and "class_type" in node and isinstance(node.get("inputs"), dict)


def _title(node: Mapping[str, Any]) -> str:
    meta = node.get("_meta")
    return str(meta.get("title", "")) if isinstance(meta, dict) else ""


def _node_id(workflow: Prompt, title: str, field: str) -> str:
    found = [key for key, node in workflow.items() if _title(node) == title]
    if len(found) != 1:
        count = f"{len(found)} nodes are" if found else "no node is"
        raise ValueError(
            f"{count} titled '{title}', but {field} needs exactly one. Titles here: "
            f"{', '.join(sorted(filter(None, map(_title, workflow.values())))) or 'none'}."
        )
    return found[0]


def _add_motions(prompt: Prompt, apply: str, files: list[str]) -> None:
    """Chains Motion LoRA nodes in front of the node that applies them, after any that is already connected."""
    next_id = max((int(key) for key in prompt if key.isdecimal()), default=0) + 1
    link = prompt[apply]["inputs"].get("motion_lora")
    for number, file in enumerate(files, next_id):
        inputs = {"motion_lora": file, "strength": 1.0} | ({"previous": link} if link else {})
        meta = {"title": f"Motion LoRA {number - next_id + 1}"}
        prompt[str(number)] = {"inputs": inputs, "class_type": "FAD_MotionLora", "_meta": meta}
        link = [str(number), 0]
    prompt[apply]["inputs"]["motion_lora"] = link


def _size_notes(size: ImageSize | str, width: int, height: int, max_pixels: int) -> list[str]:
    asked = PRESETS[size] if isinstance(size, str) else (size.width, size.height)
    if asked == (width, height):
        return []
    bounds = f"multiples of 8 from {SHORTEST} to {LONGEST}, at most {max_pixels} pixels"
    return [f"video_size {asked[0]}x{asked[1]} becomes {width}x{height} ({bounds})."]


def _steps_note(steps: int, strength: float) -> str:
    running = int(steps * strength)
    if not running:
        return f"{steps} steps at strength {strength:g} round down to none: the video comes back unchanged."
    return f"{running} of {steps} steps run at strength {strength:g}."
