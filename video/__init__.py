"""Frames in, frames out: which frames, decoding, encoding. Knows neither nodes nor motion modules."""

from .animated_image import AnimatedImageSource, is_animated_image
from .audio import SourceAudio, trimmed_audio
from .container import Limits
from .decode import Clip, Source, load_clip
from .export import DEFAULT_QUALITY, FORMATS, QUALITIES, Export, export_video
from .frame_stream import FrameStream, collected, in_chunks, write_behind
from .metadata import front_end_tags
from .open import open_source
from .output import write_errors
from .quantise import half_of, play_order
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
    "FrameStream",
    "Limits",
    "Selection",
    "Source",
    "SourceAudio",
    "TensorSource",
    "VideoSource",
    "collected",
    "exact_rate",
    "exact_seconds",
    "export_video",
    "front_end_tags",
    "half_of",
    "in_chunks",
    "is_animated_image",
    "load_clip",
    "open_source",
    "play_order",
    "trimmed_audio",
    "write_behind",
    "write_errors",
]
