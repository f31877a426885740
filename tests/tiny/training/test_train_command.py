"""`run_in_pack.py tiny.training.train`: stages in their order, each on what the one before it wrote."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fast_animatediff.tiny.training import train


def test_a_stage_without_the_one_before_names_what_to_train_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(["motion", "--out", str(tmp_path)]) == 1
    assert "needs stage vae" in capsys.readouterr().err


def test_stages_out_of_their_order_are_refused(tmp_path: Path) -> None:
    train.check_order(tmp_path, "export")  # nothing trained here: restored, perhaps
    (tmp_path / "edits.training.pt").touch()
    train.check_order(tmp_path, "edits")
    with pytest.raises(ValueError, match="edits .* is not done: finish it before turbo"):
        train.check_order(tmp_path, "turbo")
    (tmp_path / "edits.done").touch()
    for stage in ("rolls", "turbo"):
        train.check_order(tmp_path, stage)
        with pytest.raises(ValueError, match=f"{stage} .* is older than edits"):
            train.check_order(tmp_path, "export")
        (tmp_path / f"{stage}.done").touch()
    train.check_order(tmp_path, "export")
    os.utime(tmp_path / "turbo.done", (1, 1))
    for stage in ("turbo", "export"):
        with pytest.raises(ValueError, match="turbo .* is older than edits"):
            train.check_order(tmp_path, stage)
    train.check_order(tmp_path, "rolls")
    (tmp_path / "turbo.done").unlink()
    (tmp_path / "motion.done").touch()
    os.utime(tmp_path / "edits.done", (1, 1))
    with pytest.raises(ValueError, match="cameras .* is older than motion"):
        train.check_order(tmp_path, "turbo")


def test_rolls_and_turbo_can_each_be_trained_again_without_the_other(tmp_path: Path) -> None:
    for again in ("rolls", "turbo"):
        folder = tmp_path / again
        folder.mkdir()
        (folder / f"{again}.done").touch()  # the other one was restored
        train.check_order(folder, "export")


def test_a_folder_with_another_seed_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["motion", "--out", str(tmp_path)]) == 1
    assert train.main(["motion", "--seed", "1", "--out", str(tmp_path)]) == 1
    assert "'seed': 0" in capsys.readouterr().err
