from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import comfy.supported_models
from fast_animatediff.tiny.extension.family import TinySD15, register
from fast_animatediff.tiny.make import make_models
from fast_animatediff.tiny.shipped import CHECKPOINT, FOLDER, SHIPPED


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


@pytest.fixture(scope="session")
def shipped_checkpoint() -> dict[str, torch.Tensor]:
    """The weights of the shipped checkpoint as they are stored, in fp32."""
    weights = load_file(FOLDER / SHIPPED[CHECKPOINT])
    return {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}
