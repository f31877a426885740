"""Which weights `python3 dev.py models` gets: by workflow, by name, and not what is there already."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fast_animatediff.tests.bootstrap.test_download_models import download

which_models = sys.modules["which_models"]
ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = [ROOT / "bootstrap" / name for name in ("download_models.py", "which_models.py")]


def test_a_workflow_names_its_files(tmp_path: Path) -> None:
    wanted = download.read_list(which_models.LIST, tmp_path)
    turbo = {weights.name for weights in download.choose(wanted, [], ["turbo text to video"])}
    assert {"mm_sd15_AnimateLCM.safetensors", "AnimateLCM_sd15_t2v_lora.safetensors"} <= turbo
    assert "mm_sd15_v2.safetensors" not in turbo and len(turbo) == 3
    alone = {weights.name for weights in download.choose(wanted, [], ["Video to Video"])}
    assert not any("controlnet" in name or "LCM" in name or "control_" in name for name in alone)
    both = {weights.name for weights in download.choose(wanted, ["ZoomIn"], ["turbo text to video"])}
    assert both == turbo | {"v2_lora_ZoomIn.ckpt"}
    for title in ("text to", "no such"):
        with pytest.raises(download.DownloadError, match="Text to Video"):
            download.choose(wanted, [], [title])


def header_file(path: Path, **tensors: list[int]) -> None:
    """A safetensors file with the header alone."""
    header = json.dumps({name: {"dtype": "F16", "shape": shape} for name, shape in tensors.items()}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(header).to_bytes(8, "little") + header)


@pytest.mark.parametrize("shape, is_sd15", [([320, 768], True), ([320, 1024], False)])
def test_an_sd15_checkpoint_that_is_there_is_offered_instead_of_the_download(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shape: list[int], is_sd15: bool
) -> None:
    models = tmp_path / "models"
    header_file(models / "checkpoints" / "mine" / "dream.safetensors", **{which_models.SD15_LAYER: shape})
    (models / "checkpoints" / "broken.safetensors").write_bytes(b"\xff" * 20)
    wanted = download.read_list(which_models.LIST, models)
    kept = [weights.folder for weights in download.without_checkpoint(wanted, models)]
    assert ("checkpoints" in kept) == (not is_sd15) and len(kept) == len(wanted) - is_sd15
    assert ("mine/dream.safetensors is an SD1.5 checkpoint" in capsys.readouterr().out) == is_sd15


def test_the_registrys_archive_holds_the_downloader_and_finds_its_comfyui(tmp_path: Path) -> None:
    import pathspec

    lines = (ROOT / ".comfyignore").read_text().splitlines()
    ignored = pathspec.GitIgnoreSpec.from_lines(lines)
    for name in ("download_models", "which_models"):
        assert not ignored.match_file(f"bootstrap/{name}.py")
    assert ignored.match_file("bootstrap/host.py")
    pack = tmp_path / "ComfyUI" / "custom_nodes" / "fast-animatediff"
    for file in (
        *SCRIPTS,
        which_models.LIST,
        *which_models.WORKFLOWS.glob("*.json"),
    ):
        place = pack / file.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())
    (tmp_path / "ComfyUI" / "models").mkdir()
    env = {name: value for name, value in os.environ.items() if name != "COMFYUI_PATH"} | {
        "HF_ENDPOINT": "http://127.0.0.1:9"
    }
    command = [sys.executable, pack / "bootstrap" / "download_models.py", "--workflow", "Turbo Text to Video"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert str(tmp_path / "ComfyUI" / "models") in done.stdout and "3 of 3 files are missing" in done.stdout
    assert "~907.0 MB" in done.stdout
