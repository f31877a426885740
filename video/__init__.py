"""Frames in, frames out: which frames, decoding, encoding. Knows neither nodes nor motion modules."""

from .animated_image import AnimatedImageSource, is_animated_image
from .audio import SourceAudio, trimmed_audio
from .container import Limits
from .decode import Clip, Source, load_clip
from .export import DEFAULT_QUALITY, FORMATS, QUALITIES, Export, export_video
from .metadata import front_end_tags
from .open import open_source
from .output import write_errors
from .quantise import play_order
from .select import Selection, exact_rate, exact_seconds
from .size import FIT, PRESETS, SIZES
from .source import VideoSource
from .tensor_source import TensorSource

__all__ = [
    "DEFAULT_QUALITY",
    "FIT",
    "FORMATS",
    "PRESETS",
    "QUALITIES",
    "SIZES",
    "AnimatedImageSource",
    "Clip",
    "Export",
    "Limits",
    "Selection",
    "Source",
    "SourceAudio",
    "TensorSource",
    "VideoSource",
    "exact_rate",
    "exact_seconds",
    "export_video",
    "front_end_tags",
    "is_animated_image",
    "load_clip",
    "open_source",
    "play_order",
    "trimmed_audio",
    "write_errors",
]
