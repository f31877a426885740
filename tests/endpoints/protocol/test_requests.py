"""Requests: the service's fields, defaults and ranges, and problems in the shape that its clients read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fast_animatediff.endpoints.protocol.failure import Refused
from fast_animatediff.endpoints.protocol.schemas import (
    ENDPOINTS,
    MAX_TEXT,
    MAX_URL,
    NEGATIVE_PROMPT,
    InvalidRequest,
    validate,
    with_seed,
)
from fast_animatediff.endpoints.web.bodies import decode

APP = "fal-ai/fast-animatediff"
EACH = pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)
SMALLEST = {"prompt": "a panda", "video_url": "https://example.com/a.mp4"}
MOTIONS = ["zoom-out", "zoom-in", "pan-left", "pan-right", "tilt-up", "tilt-down"]
# As on the service's pages: field to default and range, (first, last) or None.
TEXT = {"num_frames": (16, (1, 32)), "video_size": ("square", None)}
VIDEO = {"first_n_seconds": (3, (2, 4)), "strength": (0.7, (0, 1))}
SCHEMAS: dict[str, dict[str, tuple[Any, tuple | None]]] = {
    "text-to-video": TEXT | {"num_inference_steps": (25, (1, 50)), "guidance_scale": (7.5, (0, 20))},
    "video-to-video": VIDEO | {"num_inference_steps": (25, (1, 50)), "guidance_scale": (7.5, (0, 20))},
    "turbo/text-to-video": TEXT | {"num_inference_steps": (8, (1, 50)), "guidance_scale": (2, (0, 20))},
    "turbo/video-to-video": VIDEO | {"num_inference_steps": (12, (1, 50)), "guidance_scale": (2, (0, 20))},
}
SHARED = {"negative_prompt": (NEGATIVE_PROMPT, None), "fps": (8, (1, 16)), "seed": (None, None)}


def problems(endpoint: str, **values: Any) -> list[dict[str, Any]]:
    with pytest.raises(InvalidRequest) as caught:
        validate(ENDPOINTS[f"{APP}/{endpoint}"], SMALLEST | values)
    return caught.value.detail


@pytest.mark.parametrize("name", SCHEMAS)
def test_defaults_are_the_services(name: str) -> None:
    request = validate(ENDPOINTS[f"{APP}/{name}"], SMALLEST)
    expected = {field: default for field, (default, _) in (SCHEMAS[name] | SHARED).items()}
    motions = {} if name.startswith("turbo/") else {"motions": []}
    url = {"video_url": SMALLEST["video_url"]} if "video-to-" in name else {}
    assert request.model_dump() == expected | motions | url | {"prompt": "a panda"}


@pytest.mark.parametrize("name", SCHEMAS)
def test_values_at_the_ends_of_the_ranges_are_taken_and_those_beyond_are_not(name: str) -> None:
    for field, (_, ends) in (SCHEMAS[name] | SHARED).items():
        if ends is None:
            continue
        for value in ends:
            assert getattr(validate(ENDPOINTS[f"{APP}/{name}"], SMALLEST | {field: value}), field) == value
        for value, kind in ((ends[0] - 0.5, "greater"), (ends[1] + 0.5, "less")):
            whole = field not in ("strength", "guidance_scale")
            value = int(value // 1 if kind == "greater" else -(-value // 1)) if whole else value
            (problem,) = problems(name, **{field: value})
            assert problem["loc"] == ["body", field] and problem["type"] == f"{kind}_than_equal"
            assert problem["input"] == value


@EACH
def test_a_missing_prompt_is_a_problem(endpoint: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        validate(endpoint, {})
    required = {"prompt", "video_url"} if endpoint.takes_video else {"prompt"}
    assert {problem["loc"][1] for problem in caught.value.detail} == required
    assert {problem["type"] for problem in caught.value.detail} == {"missing"}


@EACH
@pytest.mark.parametrize("body", [None, [], "text", 3, True])
def test_a_body_that_is_no_object_is_a_problem(endpoint: Any, body: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        validate(endpoint, body)
    assert caught.value.detail[0]["loc"] == ["body"]


@pytest.mark.parametrize(
    ("values", "where", "kind"),
    [
        ({"num_inference_steps": "many"}, ["num_inference_steps"], "int_parsing"),
        ({"num_inference_steps": 2.5}, ["num_inference_steps"], "int_from_float"),
        ({"num_inference_steps": None}, ["num_inference_steps"], "int_type"),
        ({"guidance_scale": float("nan")}, ["guidance_scale"], "finite_number"),
        ({"guidance_scale": float("inf")}, ["guidance_scale"], "finite_number"),
        ({"strength": float("nan")}, ["strength"], "finite_number"),
        ({"seed": "x"}, ["seed"], "int_parsing"),
        ({"prompt": 5}, ["prompt"], "string_type"),
        ({"prompt": "\ud800"}, ["prompt"], "string_unicode"),
        ({"prompt": "a" * (MAX_TEXT + 1)}, ["prompt"], "string_too_long"),
        ({"prompt": "a" * 10_000_000}, ["prompt"], "string_too_long"),
        ({"video_url": ["a"]}, ["video_url"], "string_type"),
        ({"video_url": "http://a.example/" + "a" * MAX_URL}, ["video_url"], "url_too_long"),
        ({"motions": "zoom-in"}, ["motions"], "list_type"),
        ({"motions": ["zoom-in", "roll"]}, ["motions", 1], "literal_error"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(values: dict, where: list, kind: str) -> None:
    (problem,) = problems("video-to-video", **values)
    assert problem["loc"] == ["body", *where] and problem["type"] == kind and problem["msg"]
    assert len(json.dumps(problem, allow_nan=False)) < 2000


def test_every_problem_is_told_at_once() -> None:
    found = problems("video-to-video", fps=0, strength=2, motions=["up"], prompt=None)
    assert [problem["loc"][1] for problem in found] == ["prompt", "strength", "fps", "motions"]


@pytest.mark.parametrize("size", ["huge", {"width": 0}, {"height": 14143}, {"width": "x"}, 512, None])
def test_a_wrong_size_is_a_problem(size: Any) -> None:
    assert {problem["loc"][1] for problem in problems("text-to-video", video_size=size)} == {"video_size"}


def test_a_size_needs_only_one_side() -> None:
    request = validate(ENDPOINTS[f"{APP}/text-to-video"], {"prompt": "a", "video_size": {"width": 640}})
    assert (request.video_size.width, request.video_size.height) == (640, 512)


def test_motions_count_once_and_are_unknown_to_turbo() -> None:
    asked = SMALLEST | {"motions": ["pan-left", "zoom-in", "pan-left"]}
    assert validate(ENDPOINTS[f"{APP}/video-to-video"], asked).motions == ["pan-left", "zoom-in"]
    assert "motions" not in validate(ENDPOINTS[f"{APP}/turbo/video-to-video"], asked).model_dump()
    assert validate(ENDPOINTS[f"{APP}/text-to-video"], asked | {"motions": MOTIONS}).motions == MOTIONS


@pytest.mark.parametrize("seed", [0, 42, -1, 2**64 + 5])
def test_a_given_seed_is_the_one_that_the_result_names(seed: int) -> None:
    request = validate(ENDPOINTS[f"{APP}/text-to-video"], SMALLEST | {"seed": seed})
    assert with_seed(request).seed == seed


def test_without_a_seed_one_is_drawn_that_javascript_keeps_exactly() -> None:
    request = validate(ENDPOINTS[f"{APP}/text-to-video"], SMALLEST)
    seeds = {with_seed(request).seed for _ in range(50)}
    assert len(seeds) == 50 and all(0 <= seed < 2**53 for seed in seeds)


@EACH
def test_a_stored_request_is_read_back_as_it_was(endpoint: Any) -> None:
    request = with_seed(validate(endpoint, SMALLEST | {"video_size": {"width": 640, "height": 360}}))
    stored = json.loads(json.dumps(request.model_dump(mode="json")))
    assert validate(endpoint, stored) == request


def test_problems_stay_small_however_large_the_values_are() -> None:
    endpoint = ENDPOINTS[f"{APP}/video-to-video"]
    long, many = "x" * 1_000_000, list(range(100_000))
    for body in (
        {"video_url": f"data:{long}"},
        SMALLEST | {"motions": many},
        SMALLEST | {"fps": {"a": [long]}},
    ):
        with pytest.raises(InvalidRequest) as caught:
            validate(endpoint, body)
        assert len(json.dumps(caught.value.detail)) < 1000


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe{", b"[" * 100_000, b'{"seed": ' + b"9" * 5000 + b"}"])
def test_a_body_that_is_no_json_is_a_problem(body: bytes) -> None:
    with pytest.raises(Refused) as caught:
        decode(body)
    (problem,) = caught.value.failure.detail
    assert problem["type"] == "json_invalid" and problem["loc"] == ["body"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(st.data())
def test_whatever_the_values_are_the_answer_is_a_request_or_problems_that_are_json(
    data: st.DataObject,
) -> None:
    endpoint = data.draw(st.sampled_from(list(ENDPOINTS.values())))
    fields = st.sampled_from(list(endpoint.request.model_fields))
    body = SMALLEST | data.draw(st.dictionaries(fields, JSON, max_size=5))
    try:
        request = with_seed(validate(endpoint, body))
    except InvalidRequest as error:
        assert error.detail and json.dumps(error.detail, allow_nan=False)
    else:
        assert validate(endpoint, json.loads(request.model_dump_json())) == request


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
@pytest.mark.parametrize(
    "weight", ["1e400", "inf", "-Infinity", "nan", "-1e39", "1e39", "1e20", "10001", " 1e9 "]
)
@pytest.mark.parametrize(
    "text", ["a (cat:{})", "(a (b:1.1) c:{}), d", "((:) b:{})", "a) ((b:{})", r"(\):{})"]
)
def test_a_weight_that_makes_nan_of_the_clip_is_a_problem(field: str, weight: str, text: str) -> None:
    (problem,) = problems("turbo/text-to-video", **{field: text.format(weight)})
    assert problem["loc"] == ["body", field] and problem["type"] == "weight_out_of_range"
    assert weight.strip() in problem["msg"] and "10000" in problem["msg"]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "(cat:1.2)",
            "(cat:-10000)",
            "(year:2024)",
            "cat:1e400",
            r"\(cat:1e400\)",
            "(cat:1e400",
            "(:1e400)",
        ),
        *(
            "(16:9:wide)",
            "(cat:nano)",
            "((cat):1.1)",
            ")(cat:1e400)",
            ":( " * 300,
            "(" * 300 + "cat)",
            "(" * 90 + ")" * 90,
        ),
    ],
)
def test_other_weights_brackets_and_colons_are_taken(text: str) -> None:
    request = SMALLEST | {"prompt": text, "negative_prompt": text}
    assert validate(ENDPOINTS[f"{APP}/text-to-video"], request).prompt == text


@pytest.mark.parametrize("depth", [97, 900, 9000])
def test_brackets_too_deep_to_be_read_are_a_problem(depth: int) -> None:
    (problem,) = problems("video-to-video", prompt="(" * depth + "cat" + ")" * depth)
    assert problem["loc"] == ["body", "prompt"] and problem["type"] == "brackets_too_deep"


@pytest.mark.parametrize("url", ["https://example.com/a.mp4", "data:video/mp4;base64," + "A" * 2 * MAX_URL])
def test_blanks_around_a_url_do_not_count(url: str) -> None:
    """As a shell's echo or a form puts them there; a data URI after them is one, however long it is."""
    for sent in (f" {url}", f"{url}\n", f"\r\n\t{url} \0"):
        request = validate(ENDPOINTS[f"{APP}/video-to-video"], SMALLEST | {"video_url": sent})
        assert request.model_dump()["video_url"] == url
