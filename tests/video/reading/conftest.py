from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from clips import constant, write_video


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """An ordinary mp4 of two seconds."""
    return write_video(tmp_path / "real.mp4", constant(Fraction(24), Fraction(2)))
