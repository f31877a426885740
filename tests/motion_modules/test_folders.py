from __future__ import annotations

from pathlib import Path

import pytest

import folder_paths
from fast_animatediff.motion_modules.folders import MOTION_LORAS, MOTION_MODULES, register_model_folders


def test_the_model_folders_are_made_where_that_can_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", {})
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    register_model_folders()
    assert {path.name for path in (tmp_path / "models").iterdir()} == {MOTION_MODULES, MOTION_LORAS}
    blocked = tmp_path / "a file"
    blocked.touch()
    monkeypatch.setattr(folder_paths, "models_dir", str(blocked))
    register_model_folders()
    assert set(folder_paths.folder_names_and_paths) == {MOTION_MODULES, MOTION_LORAS}
