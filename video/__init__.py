"""Frames in, frames out: which frames, decoding, encoding. Knows neither nodes nor motion modules."""

from .frames import half_of, on_black, play_order
from .preview import write_preview
from .reading import open_source
from .reading.animated_image import AnimatedImageSource, is_animated_image, is_still_image
from .reading.audio import SourceAudio, trimmed_audio
from .reading.container import EXTENSIONS, Limits
from .reading.decode import Clip, frames_in_chunks, load_clip
from .reading.describe import ClipDescription, describe_clip
from .reading.image_folder import ImageFolderSource, numbered_pictures
from .reading.selected_frames import SelectedFrames
from .reading.source import Source
from .reading.tensor_source import TensorSource
from .reading.video_source import VideoSource
from .size import FIT, PRESETS, SIZES
from .timing import Selection, exact_rate, exact_seconds
from .writing.export import DEFAULT_QUALITY, FORMATS, QUALITIES, WITH_SOUND, Export, export_video
from .writing.frame_stream import FrameStream, collected, in_chunks, write_behind
from .writing.metadata import front_end_tags
from .writing.new_files import write_errors

__all__ = [
    "DEFAULT_QUALITY",
    "FIT",
    "FORMATS",
    "PRESETS",
    "QUALITIES",
    "WITH_SOUND",
    "SIZES",
    "AnimatedImageSource",
    "Clip",
    "ClipDescription",
    "EXTENSIONS",
    "Export",
    "FrameStream",
    "ImageFolderSource",
    "Limits",
    "SelectedFrames",
    "Selection",
    "Source",
    "SourceAudio",
    "TensorSource",
    "VideoSource",
    "collected",
    "describe_clip",
    "exact_rate",
    "exact_seconds",
    "export_video",
    "frames_in_chunks",
    "front_end_tags",
    "half_of",
    "in_chunks",
    "is_animated_image",
    "is_still_image",
    "load_clip",
    "numbered_pictures",
    "on_black",
    "open_source",
    "play_order",
    "trimmed_audio",
    "write_behind",
    "write_errors",
    "write_preview",
]
