"""Requests and results of the four endpoints: the service's fields, types, defaults, ranges and descriptions."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from .failure import Failure, Refused
from .prompt_weights import possible_weights

NEGATIVE_PROMPT = "(bad quality, worst quality:1.2), ugly faces, bad anime"
PANDA = "panda playing a guitar, on a boat, in the ocean, high quality, high quality, ultra HD, realistic"
BLOSSOMS = (
    "masterpiece, best quality, 1girl, solo, cherry blossoms, hanami, pink flower, white flower, spring season, "
    "wisteria, petals, flower, plum blossoms, outdoors, falling petals, white hair, black eyes"
)
CLIPS = "https://huggingface.co/datasets/huggingface/documentation-images/resolve/main/diffusers/"
MAX_TEXT = 20_000  # characters of a prompt; the service names no limit, a text encoder reads a few hundred
MAX_MOTIONS = 100  # entries; repeated ones count once
MAX_URL = 8192  # characters of a URL that is not a data URI
DRAWN_SEEDS = 2**32  # exact in JavaScript, and short enough to retype
SHOWN_INPUT = 1000  # characters of JSON; a problem leaves out larger inputs

Motion = Literal["zoom-out", "zoom-in", "pan-left", "pan-right", "tilt-up", "tilt-down"]
Preset = Literal["square_hd", "square", "portrait_4_3", "portrait_16_9", "landscape_4_3", "landscape_16_9"]


def _is_unicode(text: str) -> str:
    """JSON can spell a lone surrogate, which no file or database accepts."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("string_unicode", "Input should be a valid unicode string") from None
    return text


def _short_enough(text: str) -> str:
    if len(text) > MAX_TEXT:
        raise _too_long("string_too_long", "String", MAX_TEXT)
    return text


def _without_blanks(url: str) -> str:
    """Without what browsers pass over around a URL."""
    return url.strip("".join(map(chr, range(33))))


def _short_url(url: str) -> str:
    if len(url) > MAX_URL and url[:5].lower() != "data:":
        raise _too_long("url_too_long", "URL", MAX_URL)
    return url


def _too_long(kind: str, what: str, most: int) -> PydanticCustomError:
    return PydanticCustomError(
        kind, f"{what} should have at most {{max_length}} characters", {"max_length": most}
    )


def _few(motions: Any) -> Any:
    """Each wrong entry is a problem of its own, so that a long list would get a longer answer."""
    if isinstance(motions, list) and len(motions) > MAX_MOTIONS:
        raise PydanticCustomError(
            "too_long", "List should have at most {max_length} items", {"max_length": MAX_MOTIONS}
        )
    return motions


def _once_each(motions: list[Motion]) -> list[Motion]:
    return list(dict.fromkeys(motions))


class Fields(BaseModel):
    """Base of requests and results: immutable, and unknown fields are ignored, as the service does."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ImageSize(Fields):
    width: int = Field(512, gt=0, le=14142, description="The width of the generated image.")
    height: int = Field(512, gt=0, le=14142, description="The height of the generated image.")


Text = Annotated[
    str, AfterValidator(_is_unicode), AfterValidator(_short_enough), AfterValidator(possible_weights)
]
NegativePrompt = Annotated[
    Text,
    Field(
        description="The negative prompt to use. Use it to address details that you don't want\n"
        "in the image. This could be colors, objects, scenery and even the small details\n"
        "(e.g. moustache, blurry, low resolution)."
    ),
]
Steps = Annotated[int, Field(ge=1, le=50, description="The number of inference steps to perform.")]
TurboSteps = Annotated[
    int,
    Field(
        ge=1,
        le=50,
        description="The number of inference steps to perform. 4-12 is recommended for turbo mode.",
    ),
]
Guidance = Annotated[
    float,
    Field(
        ge=0,
        le=20,
        allow_inf_nan=False,
        description="The CFG (Classifier Free Guidance) scale is a measure of how close you want\n"
        "the model to stick to your prompt when looking for a related image to show you.",
    ),
]
Seed = Annotated[
    int | None,
    Field(
        description="The same seed and the same prompt given to the same version of Stable Diffusion\n"
        "will output the same image every time."
    ),
]
Fps = Annotated[int, Field(ge=1, le=16, description="Number of frames per second to extract from the video.")]
Motions = Annotated[
    list[Motion],
    BeforeValidator(_few),
    AfterValidator(_once_each),
    Field(description="The motions to apply to the video.", json_schema_extra={"uniqueItems": True}),
]
VideoSize = Annotated[ImageSize | Preset, Field(description="The size of the video to generate.")]


class FromText(Fields):
    """What both endpoints have that make a clip of a text."""

    prompt: Text = Field(
        description="The prompt to use for generating the video. Be as descriptive as possible for best results.",
        examples=[BLOSSOMS, PANDA],
    )
    negative_prompt: NegativePrompt = NEGATIVE_PROMPT
    num_frames: int = Field(16, ge=1, le=32, description="The number of frames to generate for the video.")
    num_inference_steps: Steps
    guidance_scale: Guidance
    seed: Seed = None
    fps: Fps = 8


class TextToVideo(FromText):
    num_inference_steps: Steps = 25
    guidance_scale: Guidance = 7.5
    motions: Motions = []
    video_size: VideoSize = "square"


class TurboTextToVideo(FromText):
    num_inference_steps: TurboSteps = 8
    guidance_scale: Guidance = 2.0
    video_size: VideoSize = "square"


class FromVideo(Fields):
    """What both endpoints have that draw a video anew."""

    video_url: Annotated[
        str, AfterValidator(_is_unicode), AfterValidator(_without_blanks), AfterValidator(_short_url)
    ] = Field(
        description="URL of the video.",
        examples=[f"{CLIPS}animatediff-vid2vid-input-2.gif", f"{CLIPS}animatediff-vid2vid-input-1.gif"],
    )
    first_n_seconds: int = Field(
        3, ge=2, le=4, description="The first N number of seconds of video to animate."
    )
    prompt: Text = Field(
        description="The prompt to use for generating the image. Be as descriptive as possible for best results.",
        examples=[PANDA],
    )
    negative_prompt: NegativePrompt = NEGATIVE_PROMPT
    num_inference_steps: Steps
    strength: float = Field(
        0.7,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="The strength of the input video in the final output.",
    )
    guidance_scale: Guidance
    seed: Seed = None
    fps: Fps = 8


class VideoToVideo(FromVideo):
    num_inference_steps: Steps = 25
    guidance_scale: Guidance = 7.5
    motions: Motions = []


class TurboVideoToVideo(FromVideo):
    num_inference_steps: TurboSteps = 12
    guidance_scale: Guidance = 2.0


Request = TextToVideo | VideoToVideo | TurboTextToVideo | TurboVideoToVideo


class File(Fields):
    url: str = Field(description="The URL where the file can be downloaded from.")
    content_type: str = Field(description="The mime type of the file.", examples=["video/mp4"])
    file_name: str = Field(description="The name of the file.", examples=["FastAnimateDiff_00001_.mp4"])
    file_size: int = Field(description="The size of the file in bytes.", examples=[4404019])


class Result(Fields):
    video: File = Field(description="Generated video file.")
    seed: int = Field(description="Seed used for generating the video.")


@dataclass(frozen=True)
class Endpoint:
    """One endpoint: its id, the model of its requests, and the name of its API prompt in `workflows/api`."""

    id: str
    request: type[TextToVideo] | type[VideoToVideo] | type[TurboTextToVideo] | type[TurboVideoToVideo]
    workflow: str
    category: str

    @property
    def takes_video(self) -> bool:
        return "video_url" in self.request.model_fields


APP = "fal-ai/fast-animatediff"
ENDPOINTS: Mapping[str, Endpoint] = {
    endpoint.id: endpoint
    for endpoint in (
        Endpoint(f"{APP}/video-to-video", VideoToVideo, "video-to-video", "video-to-video"),
        Endpoint(f"{APP}/text-to-video", TextToVideo, "text-to-video", "text-to-video"),
        Endpoint(f"{APP}/turbo/video-to-video", TurboVideoToVideo, "turbo-video-to-video", "video-to-video"),
        Endpoint(f"{APP}/turbo/text-to-video", TurboTextToVideo, "turbo-text-to-video", "text-to-video"),
    )
}


class InvalidRequest(Refused):
    """A body that is not a valid request; `detail` lists the problems as the service's clients read them."""

    def __init__(self, detail: list[dict[str, Any]]) -> None:
        super().__init__(Failure(422, detail))
        self.detail = detail


def validate(endpoint: Endpoint, body: Any) -> Request:
    """The request in a decoded body, new or stored. Errors: InvalidRequest with every problem."""
    try:
        return endpoint.request.model_validate(body)
    except ValidationError as error:
        raise InvalidRequest([_as_problem(found) for found in error.errors()]) from None


def with_seed(request: Request) -> Request:
    """The request with a seed, drawn if there is none. A given seed stays as it is: the result repeats it."""
    if request.seed is not None:
        return request
    return request.model_copy(update={"seed": secrets.randbelow(DRAWN_SEEDS)})


def _as_problem(found: Mapping[str, Any]) -> dict[str, Any]:
    shown = {"loc": ["body", *found["loc"]], "msg": found["msg"], "type": found["type"]}
    for key in ("input", "ctx", "url"):
        if key in found and _is_small_json(found[key]):
            shown[key] = found[key]
    return shown


def _is_small_json(value: Any) -> bool:
    try:
        return _size(value) <= SHOWN_INPUT and len(json.dumps(value, allow_nan=False)) <= SHOWN_INPUT
    except (TypeError, ValueError, RecursionError):
        return False


def _size(value: Any) -> int:
    """At most the characters of its JSON: a data URI must not be written out only to be measured."""
    if isinstance(value, dict):
        return sum(_size(part) for pair in value.items() for part in pair)
    if isinstance(value, (list, tuple)):
        return sum(map(_size, value))
    return len(value) if isinstance(value, str) else 1
