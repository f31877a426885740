from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import comfy.supported_models
from fast_animatediff.tiny.extension.family import TinySD15, register
from fast_animatediff.tiny.make import make_models


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with the tiny family."""
    folder = tmp_path_factory.mktemp("models")
    make_models(folder)
    return folder


@pytest.fixture(scope="module")
def tiny_family() -> Iterator[None]:
    """The host as the extension leaves it, for the tests of one file."""
    register()
    yield
    comfy.supported_models.models.remove(TinySD15)
