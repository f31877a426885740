"""From a training to the files that ship, and back."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fast_animatediff.tests.tiny.training.first_steps import Trained
from fast_animatediff.tiny.domain.motions import CAMERA_RATES
from fast_animatediff.tiny.shipped import (
    FOLDER,
    ROWS,
    SHIPPED,
    TOKENS,
    read_metadata,
)
from fast_animatediff.tiny.training.cameras import (
    GAIN,
)
from fast_animatediff.tiny.training.data import picture_batch
from fast_animatediff.tiny.training.export import LOG_LINES, export
from fast_animatediff.tiny.training.restore import restore
from fast_animatediff.tiny.training.vae import encode_fast, load_vae

CPU = torch.device("cpu")
pytestmark = pytest.mark.slow


@pytest.fixture
def folder(trained: Trained, tmp_path: Path) -> Path:
    """A copy of the training, to be changed."""
    return Path(shutil.copytree(trained.folder, tmp_path / "training", copy_function=os.link))


def test_what_was_trained_is_exported_as_it_ships(folder: Path, tmp_path: Path) -> None:
    written = export(folder, 0, tmp_path / "out")
    assert {path.name for path in written} == set(SHIPPED.values())
    for path in written:
        ours, theirs = (load_file(where / path.name) for where in (tmp_path / "out", FOLDER))
        assert {key: value.shape for key, value in ours.items() if key not in (ROWS, TOKENS)} == {
            key: value.shape for key, value in theirs.items() if key not in (ROWS, TOKENS)
        }


def test_what_is_exported_is_of_edits_rolls_edges_and_turbo(folder: Path, tmp_path: Path) -> None:
    export(folder, 0, tmp_path / "out")
    sources = {"motion_module": "edits", "turbo_motion_module": "turbo", "turbo_lora": "turbo-lora"}
    sources |= {f"motion_lora_{axis}": f"edits-{axis}" for axis in CAMERA_RATES}
    sources |= {"motion_lora_roll": "rolls-roll", "edge_controlnet": "edges"}
    for name, source in sources.items():
        exported = load_file(tmp_path / "out" / f"{name}.safetensors")
        for key, value in load_file(folder / f"{source}.safetensors").items():
            gain = GAIN if name.startswith("motion_lora") and ".up." in key else 1.0
            assert torch.equal(exported[key], (gain * value).half()), (name, key)


def test_long_logs_are_exported_thinned_up_to_their_last_line(folder: Path, tmp_path: Path) -> None:
    for lines in (3, LOG_LINES, LOG_LINES + 1, 5 * LOG_LINES):
        (folder / "long.jsonl").write_text("".join(f"{number}\n" for number in range(lines)))
        export(folder, 0, tmp_path / "out")
        exported = (tmp_path / "out" / "logs" / "long.jsonl").read_text().split()
        assert min(lines, LOG_LINES) / 2 < len(exported) <= LOG_LINES
        assert exported[-1] == str(lines - 1) and exported == sorted(exported, key=int)


def test_export_without_a_stage_writes_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / "turbo-lora.safetensors").rename(folder / "away")
    with pytest.raises(FileNotFoundError, match="turbo-lora"):
        export(folder, 0, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


def test_shipped_weights_that_are_restored_and_exported_again_are_the_same(tmp_path: Path) -> None:
    training, again = tmp_path / "training", tmp_path / "again"
    training.mkdir()
    restore(training, 0, 64, CPU, steps=60)
    for path in export(training, 0, again):
        # The digest of the weights is in there.
        assert read_metadata(path) == read_metadata(FOLDER / path.name)
    vae, fast = load_vae(training, CPU)
    pictures, _ = picture_batch(0, "test", 0, 16, 64, CPU)
    latents = vae.taesd_encoder(pictures)
    assert (encode_fast(fast, pictures) - latents).square().mean() < 0.8 * latents.var()
    with pytest.raises(ValueError, match="another seed than 1"):
        restore(tmp_path, 1, 64, CPU)
    with pytest.raises(FileExistsError, match="vae.safetensors already"):
        restore(training, 0, 64, CPU)
