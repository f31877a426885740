"""What is known about the nodes that stand in for others' is what the host says about them.

After a change of one of them: `python3 dev.py test tests/replacements/test_known_nodes.py --update-golden`.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from fast_animatediff.dev_server.server import ComfyServer
from fast_animatediff.replacements.known_nodes import NODES_FILE
from fast_animatediff.tests.workflows.test_api_prompts import names_in_order, widgets_of

pytestmark = pytest.mark.server
TYPES = [
    *(
        "FAD_LoadMotionModule",
        "FAD_MotionLora",
        "FAD_ApplyMotionModule",
        "FAD_ContextWindows",
        "FAD_PromptSchedule",
        "FAD_ValueSchedule",
        "FAD_ControlNetStrength",
    ),
    *("FAD_LoadVideoFrames", "FAD_ExportVideo", "FAD_DecodeAndExport"),
    *("CheckpointLoaderSimple", "EmptyLatentImage", "KSampler", "KSamplerAdvanced", "VAEDecode", "VAEEncode"),
    *(
        "ControlNetLoader",
        "DiffControlNetLoader",
        "ControlNetApplyAdvanced",
        "RepeatLatentBatch",
        "ImageScale",
    ),
    *("GetImageSize", "ImageFromBatch", "RepeatImageBatch", "LoadAudio", "TrimAudioDuration"),
    *("FrameInterpolationModelLoader", "FrameInterpolate"),
]
FILES = (
    "ckpt_name",
    "motion_module",
    "motion_lora",
    "file",
    "audio",
    "control_net_name",
    "model_name",
    "vae_name",
)


def described(info: dict[str, Any]) -> dict[str, Any]:
    widgets = {}
    for name, kind, options in widgets_of(info):
        choices = options.get("options") or [None]
        first = "fixed" if name == "control_after_generate" else "image" if name == "upload" else choices[0]
        widgets[name] = (kind, None if name in FILES else options.get("default", first))
    kinds = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    sockets = {name: kinds[name][0] for name in names_in_order(info["input_order"]) if name not in widgets}
    return {
        "widgets": widgets,
        "sockets": sockets,
        "outputs": list(zip(info["output_name"], info["output"], strict=True)),
    }


def test_the_file_of_known_nodes_is_what_the_host_says(
    comfy_server: ComfyServer, request: pytest.FixtureRequest
) -> None:
    object_info = comfy_server.client.get("/object_info")
    lines = [f"{json.dumps(name)}: {json.dumps(described(object_info[name]))}" for name in TYPES]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    if request.config.getoption("--update-golden"):
        NODES_FILE.write_text(text, encoding="utf-8")
    assert NODES_FILE.read_text(encoding="utf-8") == text, "a node changed; see the top of this file"
