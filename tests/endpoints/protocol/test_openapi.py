"""The OpenAPI documents: complete, with references that lead somewhere, and true to what is accepted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from fast_animatediff.endpoints.protocol.openapi import document
from fast_animatediff.endpoints.protocol.schemas import ENDPOINTS, Endpoint, InvalidRequest, validate

APP = "fal-ai/fast-animatediff"
ADDRESS = "http://127.0.0.1:8188/fal"
EACH = pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from (value for key, value in part.items() if key == "$ref")
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def input_schema(endpoint: Endpoint) -> dict[str, Any]:
    found = document([endpoint], ADDRESS)
    body = found["paths"][f"/{endpoint.id}"]["post"]["requestBody"]
    name = body["content"]["application/json"]["schema"]["$ref"].split("/")[-1]
    return found["components"]["schemas"][name]


@pytest.mark.parametrize(
    "chosen", [*([endpoint] for endpoint in ENDPOINTS.values()), list(ENDPOINTS.values())]
)
def test_every_reference_leads_to_a_schema_and_every_schema_is_used(chosen: list[Endpoint]) -> None:
    found = json.loads(json.dumps(document(chosen, ADDRESS)))
    used = {reference.removeprefix("#/components/schemas/") for reference in references(found)}
    assert used == set(found["components"]["schemas"])


@EACH
def test_one_endpoint_has_the_paths_of_the_services_queue(endpoint: Endpoint) -> None:
    found = document([endpoint], ADDRESS)
    request = f"/{APP}/requests/{{request_id}}"
    assert found["servers"] == [{"url": f"{ADDRESS}/queue"}]
    assert {path: list(methods) for path, methods in found["paths"].items()} == {
        f"/{endpoint.id}": ["post"],
        request: ["get"],
        f"{request}/status": ["get"],
        f"{request}/cancel": ["put"],
    }
    assert found["info"]["x-fal-metadata"] == {"endpointId": endpoint.id, "category": endpoint.category}


def test_the_document_of_all_has_the_waiting_paths_too() -> None:
    found = document(ENDPOINTS.values(), ADDRESS)
    for endpoint in ENDPOINTS.values():
        run, queue = found["paths"][f"/run/{endpoint.id}"], found["paths"][f"/queue/{endpoint.id}"]
        assert run["post"]["requestBody"] == queue["post"]["requestBody"]
    assert found["servers"] == [{"url": ADDRESS}]


def test_names_of_models_are_the_services() -> None:
    names = set(document(ENDPOINTS.values(), ADDRESS)["components"]["schemas"])
    for words in ("TextToVideo", "VideoToVideo", "TurboTextToVideo", "TurboVideoToVideo"):
        assert {f"FastAnimatediff{words}Input", f"FastAnimatediff{words}Output"} <= names
    assert {"QueueStatus", "File", "ImageSize", "HTTPValidationError"} <= names


@EACH
def test_every_field_is_described_and_has_a_type(endpoint: Endpoint) -> None:
    schema = input_schema(endpoint)
    assert schema["x-fal-order-properties"] == list(endpoint.request.model_fields)
    for name, field in schema["properties"].items():
        assert field["description"] and field["title"], name
        assert "type" in field or name == "video_size"
    assert set(schema["required"]) == {"prompt", *(["video_url"] if endpoint.takes_video else [])}


@EACH
def test_ranges_in_the_document_are_those_that_are_accepted(endpoint: Endpoint) -> None:
    body = {"prompt": "a", "video_url": "b"}
    for name, field in input_schema(endpoint)["properties"].items():
        for end, beyond in (("minimum", -1), ("maximum", 1)):
            if end in field:
                validate(endpoint, body | {name: field[end]})
                with pytest.raises(InvalidRequest):
                    validate(endpoint, body | {name: field[end] + beyond})
        if "default" in field:
            assert validate(endpoint, body | {name: field["default"]}) == validate(endpoint, body)
        for example in field.get("examples", []):
            validate(endpoint, body | {name: example})
