"""OpenAPI documents of the endpoints, in the shape of the service's own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from .schemas import APP, Endpoint, Result

Schema = dict[str, Any]

VERSION = "3.1.0"  # the service says 3.0.4, but writes limits and examples that only 3.1 has
REFERENCE = "#/components/schemas/{model}"
TEXT = {"type": "string"}


def _parameter(name: str, place: str, schema: Schema, description: str) -> Schema:
    described = {**schema, "description": description}
    return {"name": name, "in": place, "required": place == "path", "schema": described}


LOGS = _parameter(
    "logs", "query", {"type": "number"}, "Whether to include logs (`1`) in the response or not (`0`)."
)
REQUEST_ID = _parameter("request_id", "path", TEXT, "Request ID")
WEBHOOK = _parameter("fal_webhook", "query", {**TEXT, "format": "uri"}, "A URL to which the result is sent.")
MOST_WAITING = _parameter(
    "fal_max_queue_length",
    "query",
    {"type": "integer", "minimum": 0, "maximum": 999_999_999},
    "Refuse the request with 429 if more requests than this are waiting.",
)
ANYWHERE = (401, 403, 503)  # no key, a page of another origin, requests can't be stored
FAILED = (422, 499, 500, 503, 504)  # how a request may fail: see failure.py


def document(endpoints: Iterable[Endpoint], address: str) -> Schema:
    """The document of one endpoint, with its queue paths only, like the service's; or of several, with all paths.

    address: base of the endpoints, such as http://127.0.0.1:8188/fal.
    """
    chosen = list(endpoints)
    schemas = _shared_schemas()
    for endpoint in chosen:
        schemas |= _request_schemas(endpoint)
    if len(chosen) == 1:
        paths, server = _queue_paths(chosen, ""), f"{address}/queue"
    else:
        paths, server = _queue_paths(chosen, "/queue") | _run_paths(chosen) | _operators_paths(), address
    return {
        "openapi": VERSION,
        "info": _info(chosen),
        "components": {
            "securitySchemes": {
                "apiKeyAuth": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "`Key`, a space, and one of the keys in the settings. Not needed if no keys are set.",
                }
            },
            "schemas": schemas,
        },
        "paths": paths,
        "servers": [{"url": server}],
        "security": [{"apiKeyAuth": []}, {}],
    }


def model_name(endpoint: Endpoint) -> str:
    """The service's name for an endpoint's models: FastAnimatediffVideoToVideo, without Input or Output."""
    words = endpoint.id.partition("/")[2].replace("/", "-").split("-")
    return "".join(word.capitalize() for word in words)


def _info(endpoints: list[Endpoint]) -> Schema:
    if len(endpoints) > 1:
        description = "The Fast AnimateDiff endpoints, served by ComfyUI."
        return {"title": "Fast AnimateDiff", "version": "1.0.0", "description": description}
    (endpoint,) = endpoints
    return {
        "title": f"Queue OpenAPI for {endpoint.id}",
        "version": "1.0.0",
        "description": f"The OpenAPI schema for the {endpoint.id} queue.",
        "x-fal-metadata": {"endpointId": endpoint.id, "category": endpoint.category},
    }


def _queue_paths(endpoints: list[Endpoint], prefix: str) -> Schema:
    """One path per endpoint to submit to; status, cancel and result have one path for all endpoints of the app."""
    requests = f"{prefix}/{APP}/requests/{{request_id}}"
    results = [_reference(f"{model_name(endpoint)}Output") for endpoint in endpoints]
    result = results[0] if len(results) == 1 else {"anyOf": results}
    status = _reference("QueueStatus")
    cancelling = {**TEXT, "enum": ["CANCELLATION_REQUESTED"]}
    cancelled = _object(status=cancelling, request_id={**TEXT, "description": "Request ID"})
    paths = {
        f"{requests}/status": {
            "get": _operation([REQUEST_ID, LOGS], {200: ("The request status.", status)}, 202, 404)
        },
        f"{requests}/cancel": {
            "put": _operation([REQUEST_ID], {202: ("The request is being cancelled.", cancelled)}, 400, 404)
        },
        requests: {
            "get": _operation([REQUEST_ID], {200: ("Result of the request.", result)}, 400, 404, *FAILED)
        },
    }
    for endpoint in endpoints:
        submit = _operation(
            [WEBHOOK, MOST_WAITING], {200: ("The request status.", status)}, 400, 413, 422, 429
        )
        paths[f"{prefix}/{endpoint.id}"] = {"post": submit | {"requestBody": _body(endpoint)}}
    return paths


def _run_paths(endpoints: list[Endpoint]) -> Schema:
    paths = {}
    for endpoint in endpoints:
        result = _reference(f"{model_name(endpoint)}Output")
        run = _operation([], {200: ("Result of the request.", result)}, 400, 413, 429, *FAILED)
        paths[f"/run/{endpoint.id}"] = {"post": run | {"requestBody": _body(endpoint)}}
    return paths


def _operators_paths() -> Schema:
    """What needs no key."""
    truth, keys = {"type": "boolean"}, {"type": "array", "items": {"type": "object"}}
    health, key_set = _object(alive=truth, ready=truth), _object(keys=keys)
    metrics = _operation([], {200: ("Numbers in Prometheus' text format.", TEXT)})
    metrics["responses"]["200"]["content"] = {"text/plain": {"schema": TEXT}}
    ready = {200: ("There is a ComfyUI for requests.", health), 503: ("There is none.", health)}
    return {
        "/health": {"get": _operation([], {200: ("Whether requests are accepted and run.", health)})},
        "/health/ready": {"get": _operation([], ready)},
        "/metrics": {"get": metrics},
        "/.well-known/jwks.json": {"get": _operation([], {200: ("The key that signs webhooks.", key_set)})},
    }


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _operation(parameters: list[Schema], answers: dict[int, tuple[str, Schema]], *others: int) -> Schema:
    responses = {str(status): _answer(text, schema) for status, (text, schema) in answers.items()}
    ok = next(iter(answers.values()))
    for status in sorted({*ANYWHERE, *others} - answers.keys()):
        if status == 202:
            responses["202"] = _answer("Accepted, not finished.", ok[1])
        elif status == 422:
            responses["422"] = _answer("The input is invalid.", _reference("HTTPValidationError"))
        else:
            responses[str(status)] = _answer("What went wrong.", _reference("Error"))
    return {"parameters": parameters, "responses": responses}


def _answer(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _body(endpoint: Endpoint) -> Schema:
    schema = _reference(f"{model_name(endpoint)}Input")
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _reference(model: str) -> Schema:
    return {"$ref": REFERENCE.format(model=model)}


def _request_schemas(endpoint: Endpoint) -> Schema:
    name = model_name(endpoint)
    taken, given = _models_schemas(endpoint.request), _models_schemas(Result)
    return {
        f"{name}Input": taken.pop(endpoint.request.__name__),
        f"{name}Output": given.pop(Result.__name__),
        **taken,
        **given,
    }


def _models_schemas(model: type[BaseModel]) -> Schema:
    """The schemas of a model and of the models nested in it, by name."""
    schema = model.model_json_schema(ref_template=REFERENCE)
    found = {**schema.pop("$defs", {}), model.__name__: schema}
    for described in found.values():
        described["x-fal-order-properties"] = list(described["properties"])
        described["properties"] = {name: _plain(field) for name, field in described["properties"].items()}
    return found


def _plain(field: Schema) -> Schema:
    """A nullable field as a list of types instead of `anyOf`: readers of these documents look for `type`."""
    choices = field.get("anyOf", [])
    if {"type": "null"} not in choices:
        return field
    (other,) = (choice for choice in choices if choice != {"type": "null"})
    rest = {key: value for key, value in field.items() if key not in ("anyOf", "default")}
    return {**rest, **other, "type": [other["type"], "null"]}


def _shared_schemas() -> Schema:
    problem = {
        "type": "object",
        "properties": {
            "loc": {"type": "array", "items": {"anyOf": [TEXT, {"type": "integer"}]}},
            "msg": TEXT,
            "type": TEXT,
            "ctx": {"type": "object", "additionalProperties": True},
        },
        "required": ["loc", "msg", "type"],
    }
    described = {
        "request_id": "The request id.",
        "response_url": "The response url.",
        "status_url": "The status url.",
        "cancel_url": "The cancel url.",
    }
    log = {"type": "object", "properties": {"message": TEXT, "level": TEXT, "timestamp": TEXT}}
    status = {
        "type": "object",
        "properties": {
            "status": {"type": "string", "enum": ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]},
            **{name: {**TEXT, "description": words} for name, words in described.items()},
            "logs": {"type": ["array", "null"], "description": "The logs.", "items": log},
            "metrics": {"type": "object", "description": "The metrics.", "additionalProperties": True},
            "queue_position": {"type": "integer", "description": "The queue position."},
        },
        "required": ["status", "request_id"],
    }
    problems = {"type": "object", "properties": {"detail": {"type": "array", "items": problem}}}
    error = {"type": "object", "properties": {"detail": TEXT, "error_type": TEXT}, "required": ["detail"]}
    return {"QueueStatus": status, "HTTPValidationError": problems, "Error": error}
