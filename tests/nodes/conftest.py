from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import folder_paths


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    """The host's folders in a place of their own."""
    before = folder_paths.input_directory, folder_paths.output_directory, folder_paths.temp_directory
    for name in ("input", "output", "temp"):
        (tmp_path / name).mkdir()
    folder_paths.set_input_directory(str(tmp_path / "input"))
    folder_paths.set_output_directory(str(tmp_path / "output"))
    folder_paths.set_temp_directory(str(tmp_path / "temp"))
    yield tmp_path
    folder_paths.set_input_directory(before[0])
    folder_paths.set_output_directory(before[1])
    folder_paths.set_temp_directory(before[2])
