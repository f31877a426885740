"""What the registry reads of pyproject.toml: one value it does not know, and it takes none of the list."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
RAW = "https://raw.githubusercontent.com/fast-animatediff/fast-animatediff/main/"
ENVIRONMENTS = {
    "GPU :: NVIDIA CUDA",
    "GPU :: AMD ROCm",
    "GPU :: Intel Arc",
    "GPU :: Apple Metal",
    "NPU :: Huawei Ascend",
}


def picture(key: str) -> Image.Image:
    address = re.search(rf'^{key} = "(.*)"$', PROJECT, re.M)[1]
    assert address.startswith(RAW)
    path = ROOT / address[len(RAW) :]
    assert path.stat().st_size < 100_000
    return Image.open(path)


def test_the_icon_is_a_small_square_and_the_banner_21_by_9() -> None:
    width, height = picture("Icon").size
    assert width == height <= 400
    width, height = picture("Banner").size
    assert width / height == pytest.approx(21 / 9)


def test_the_classifiers_are_those_the_registry_knows() -> None:
    classifiers = re.findall(r'"((?:Environment|Operating System) :: .*)"', PROJECT)
    assert {name[len("Environment :: ") :] for name in classifiers if name[0] == "E"} == ENVIRONMENTS
    assert [name for name in classifiers if name[0] == "O"] == ["Operating System :: OS Independent"]


def test_the_version_is_one_that_can_be_published() -> None:
    assert re.search(r'^version = "\d+\.\d+\.\d+"$', PROJECT, re.M)
