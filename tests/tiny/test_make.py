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

from fast_animatediff.tiny import make
from fast_animatediff.tiny.host import ROOT, host_folder


def digests(models: Path) -> dict[str, str]:
    return {name: hashlib.sha256((models / name).read_bytes()).hexdigest() for name in make.FILES}


def test_the_script_run_by_path_writes_the_same_bytes_every_time(models: Path, tmp_path: Path) -> None:
    """From the checkout's root, whose folder nodes/ must not come in the host's way."""
    subprocess.run(
        [sys.executable, "tiny/make.py", "--out", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "COMFYUI_PATH": str(host_folder())},
        check=True,
    )
    assert digests(tmp_path) == digests(models)


def test_another_seed_gives_other_weights(models: Path, tmp_path: Path) -> None:
    make.make_models(tmp_path, seed=1)
    assert not set(digests(tmp_path).values()) & set(digests(models).values())


def test_the_files_differ_from_each_other(models: Path) -> None:
    assert len(set(digests(models).values())) == len(make.FILES) == 12


def test_each_file_is_half_precision_and_says_that_it_is_a_stand_in(models: Path) -> None:
    mark = {"fast_animatediff": "tiny stand-in, random weights, seed 0, recipe 1"}
    for name in make.FILES:
        if name.endswith(".ckpt"):
            content = torch.load(models / name, weights_only=True)
            values = list(content.pop("state_dict").values())
            assert content == mark
        else:
            with safe_open(models / name, "pt") as file:
                assert file.metadata() == mark
                values = [file.get_tensor(key) for key in file.keys()]
        assert all(value.dtype == torch.float16 and value.isfinite().all() for value in values)


def test_a_second_call_writes_nothing(models: Path) -> None:
    assert make.make_models(models) == []


def test_a_real_model_under_the_same_name_is_never_replaced(tmp_path: Path) -> None:
    real = tmp_path / make.MOTION_MODULE
    real.parent.mkdir()
    save_file({"weight": torch.ones(2)}, real)
    before = real.read_bytes()
    with pytest.raises(FileExistsError, match="no tiny stand-in"):
        make.make_models(tmp_path)
    assert real.read_bytes() == before
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [real]


def test_an_older_stand_in_is_made_anew(tmp_path: Path) -> None:
    old = tmp_path / make.TURBO_LORA
    old.parent.mkdir()
    save_file({"weight": torch.ones(2)}, old, metadata={make.MARK: "tiny stand-in of old"})
    assert old in make.make_models(tmp_path)
    assert make.read_mark(old) == make.stand_in_text(0)
