from __future__ import annotations

import pytest
import torch

from fast_animatediff.benchmarks.compare import contender, ours, reference, weights
from fast_animatediff.benchmarks.compare.jobs import SIZES
from fast_animatediff.tests.benchmarks.stand_in import SMALL


@pytest.fixture(scope="session")
def size():
    return SIZES["test"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory, size):
    made = tmp_path_factory.mktemp("weights")
    weights.make_weights(made, size)
    return made


@pytest.fixture(scope="session")
def host_in_place():
    """The session has imported the host already, with the flags of the tests."""
    patch = pytest.MonkeyPatch()
    patch.setattr(ours, "use_host", lambda *_: None)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def our_contender(folder, size, host_in_place):
    return ours.Ours(contender.Setting("ours", folder, folder, size))


@pytest.fixture(scope="session")
def expected(folder, size):
    """What the reference computes for SMALL, and the path where a worker reads it."""
    path = folder / "reference.pt"
    values = reference.run_reference(folder, size, SMALL, "cpu")
    torch.save(values, path)
    return values, str(path)
