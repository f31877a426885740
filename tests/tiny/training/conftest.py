from __future__ import annotations

import pytest

from fast_animatediff.tests.tiny.training.first_steps import Trained, take_first_steps


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return take_first_steps(tmp_path_factory.mktemp("training"))
