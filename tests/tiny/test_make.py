from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fast_animatediff.dev_server.host import ROOT, host_folder
from fast_animatediff.tiny import make, shipped


def digests(models: Path) -> dict[str, str]:
    return {name: hashlib.sha256((models / name).read_bytes()).hexdigest() for name in shipped.SHIPPED}


def test_the_script_run_by_path_writes_the_same_bytes_every_time(models: Path, tmp_path: Path) -> None:
    """From the checkout's root, whose folder nodes/ must not come in the host's way."""
    subprocess.run(
        [sys.executable, "bootstrap/run_in_pack.py", "tiny.make", "--out", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "COMFYUI_PATH": str(host_folder())},
        check=True,
    )
    assert digests(tmp_path) == digests(models)


def test_the_files_differ_from_each_other(models: Path) -> None:
    assert len(set(digests(models).values())) == len(shipped.SHIPPED) == 13


def test_the_repository_holds_exactly_the_files_that_are_written_and_at_most_43_mb() -> None:
    assert {path.name for path in shipped.FOLDER.glob("*.safetensors")} == set(shipped.SHIPPED.values())
    assert sum(path.stat().st_size for path in shipped.FOLDER.rglob("*") if path.is_file()) <= 43e6


def test_each_file_is_half_precision_and_says_that_it_is_tiny(models: Path) -> None:
    for name in shipped.SHIPPED:
        if name.endswith(".ckpt"):
            content = torch.load(models / name, weights_only=True)
            values = list(content.pop("state_dict").values())
        else:
            with safe_open(models / name, "pt") as file:
                content = file.metadata()
                values = [file.get_tensor(key) for key in file.keys()]
        assert list(content) == [shipped.MARK] and content[shipped.MARK].startswith("tiny family, ")
        assert all(value.dtype == torch.float16 and value.isfinite().all() for value in values)


def test_the_token_table_of_the_checkpoint_is_whole_again(models: Path) -> None:
    with safe_open(models / shipped.CHECKPOINT, "pt") as file:
        table = file.get_tensor(shipped.TABLE)
        assert shipped.ROWS not in file.keys() and shipped.TOKENS not in file.keys()
    assert len(table) == 49408 and 50 < table.any(dim=1).sum() < 300


def test_packing_and_unpacking_a_token_table_changes_nothing() -> None:
    table = torch.zeros(shipped.VOCABULARY, 2)
    table[[3, 49406]] = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    packed = shipped.pack({shipped.TABLE: table, "other": torch.ones(1)})
    assert packed[shipped.ROWS].shape == (2, 2)
    again = shipped.unpack(packed)
    assert torch.equal(again[shipped.TABLE], table) and set(again) == {shipped.TABLE, "other"}


def test_the_shipped_token_table_survives_being_unpacked_and_packed(
    shipped_checkpoint: dict[str, torch.Tensor],
) -> None:
    again = shipped.pack(shipped.unpack(shipped_checkpoint))
    assert again.keys() == shipped_checkpoint.keys()
    for key, value in again.items():
        assert torch.equal(value, shipped_checkpoint[key])


def test_a_second_call_writes_nothing(models: Path) -> None:
    assert make.make_models(models) == []


def test_a_real_model_under_the_same_name_is_never_replaced(tmp_path: Path) -> None:
    real = tmp_path / shipped.MOTION_MODULE
    real.parent.mkdir()
    save_file({"weight": torch.ones(2)}, real)
    before = real.read_bytes()
    with pytest.raises(FileExistsError, match="does not belong to the tiny family"):
        make.make_models(tmp_path)
    assert real.read_bytes() == before
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [real]


def test_an_older_tiny_file_is_written_anew(tmp_path: Path) -> None:
    old = tmp_path / shipped.TURBO_LORA
    old.parent.mkdir()
    save_file({"weight": torch.ones(2)}, old, metadata={shipped.MARK: "tiny stand-in of old"})
    assert old in make.make_models(tmp_path)
    assert (
        make.read_mark(old) == shipped.read_metadata(shipped.FOLDER / "turbo_lora.safetensors")[shipped.MARK]
    )
