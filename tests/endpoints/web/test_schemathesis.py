"""Requests made up from the OpenAPI document: whatever is sent, the answer is one that the document describes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from fast_animatediff.endpoints.protocol.openapi import document
from fast_animatediff.endpoints.protocol.schemas import ENDPOINTS
from fast_animatediff.fleet.worker import free_port
from fast_animatediff.tests.endpoints.served import SMALL, Front

DESCRIBED = schemathesis.openapi.from_dict(document(ENDPOINTS.values(), "http://127.0.0.1/fal"))
# Values are read as the service reads them, "8" for 8 too, so not all that breaks the schema is refused; no keys are
# set; a 405 names no other method; and answers above 499 are described: without a ComfyUI a request ends in one.
EXCLUDED = [
    checks.negative_data_rejection,
    checks.ignored_auth,
    not_a_server_error,
]


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """The endpoints with a ComfyUI that is not there: requests are checked and queued, none runs, nothing is fetched."""
    away = f"http://127.0.0.1:{free_port()}"
    with Front(tmp_path_factory.mktemp("idle"), away, {"allowed_hosts": []}) as front:
        yield front


@pytest.fixture(scope="module")
def known(idle: Front) -> list[str]:
    """A request that waits and one that was cancelled."""
    waiting, cancelled = idle.submitted(SMALL), idle.submitted(SMALL)
    assert idle.http.put(f"{idle.url(cancelled)}/cancel").status_code == 202
    return [waiting, cancelled]


@DESCRIBED.parametrize()
@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_described(case: schemathesis.Case, idle: Front, known: list[str]) -> None:
    if "/run/" in case.path:
        case.headers["x-fal-request-timeout"] = "0.05"  # nobody is there to begin with it
    (case.query or {}).pop("fal_webhook", None)
    if "request_id" not in (case.path_parameters or {}):
        answer = asked(case, idle, EXCLUDED)
        if (case.method, answer.status_code) == ("POST", 200) and "/queue/" in case.path:
            assert idle.http.put(answer.json()["cancel_url"]).status_code == 202
        return
    for request_id in (case.path_parameters["request_id"], *known):
        case.path_parameters["request_id"] = request_id
        asked(case, idle, [*EXCLUDED, checks.positive_data_acceptance])  # what has ended can't be cancelled


def asked(
    case: schemathesis.Case, idle: Front, excluded: list[schemathesis.CheckFunction]
) -> schemathesis.Response:
    answer = case.call(base_url=f"{idle.address}/fal")
    case.validate_response(answer, excluded_checks=excluded)
    assert answer.status_code != 500
    return answer
