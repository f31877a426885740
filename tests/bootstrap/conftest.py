from __future__ import annotations

from pathlib import Path

import pytest
from loaded import ROOT, browser_tools, dev, host, programs


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout in a folder of the test, so that nothing is written into the real one."""
    for module in (programs, host, browser_tools, dev):
        for name, value in vars(module).copy().items():
            if isinstance(value, Path) and value.is_relative_to(ROOT):
                monkeypatch.setattr(module, name, tmp_path / value.relative_to(ROOT))
    return tmp_path
