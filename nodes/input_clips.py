"""The clips of the input folder: videos, animations and folders of numbered pictures, listed, checked and opened."""

from __future__ import annotations

import hashlib
import os
from fractions import Fraction
from functools import lru_cache

import comfy.model_management
import folder_paths

from ..video import (
    EXTENSIONS,
    ImageFolderSource,
    Limits,
    Source,
    is_animated_image,
    is_still_image,
    numbered_pictures,
    open_source,
)

IMAGE_EXTENSIONS = (".webp", ".png", ".apng")
FEWEST_PICTURES = 2  # in a folder that is offered


def input_clips() -> list[str]:
    """Names of the clips in the input folder, sorted, folders last and with a slash at their end.

    Links that lead out of it, and folders with pictures that lead out of the host's folders, are left out.
    """
    with os.scandir(folder_paths.get_input_directory()) as entries:
        offered = sorted((entry.is_dir(), entry.name) for entry in entries if is_offered(entry))
    return [f"{name}/" if is_folder else name for is_folder, name in offered]


def is_offered(entry: os.DirEntry[str]) -> bool:
    """Whether something in the input folder can be loaded as a clip, as far as names and first bytes tell."""
    extension = os.path.splitext(entry.name)[1].lower()
    if entry.name.startswith("."):  # such as the `._clip.mp4` of macOS, which is no video
        return False
    try:
        folder = entry.is_dir()
        if not folder and extension not in (*EXTENSIONS, *IMAGE_EXTENSIONS):
            return False
        if entry.is_symlink() and not folder_paths.is_within_directory(
            folder_paths.get_input_directory(), entry.path
        ):
            return False
        status = entry.stat()
        if folder:
            return has_pictures(entry.path, status.st_mtime_ns)
        if not entry.is_file():
            return False
    except OSError:  # a link that leads to itself, a folder that can't be read
        return False
    return extension not in IMAGE_EXTENSIONS or moves(entry.path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=65536)
def moves(path: str, modified: int, size: int) -> bool:
    """Whether a picture is animated. The host asks for the list at every prompt; a file is opened once per change."""
    return is_animated_image(path)


@lru_cache(maxsize=1024)
def pictures_in(folder: str, modified: int) -> tuple[str, ...]:
    """The names of a folder's numbered pictures, in order; read once per change, as above."""
    return tuple(numbered_pictures(os.listdir(folder)))


@lru_cache(maxsize=1024)
def has_pictures(folder: str, modified: int) -> bool:
    """Whether a folder holds a clip, none of whose pictures would be refused; looked at once per change, as above."""
    pictures = [os.path.join(folder, name) for name in pictures_in(folder, modified)]
    return len(pictures) >= FEWEST_PICTURES and all(map(is_contained, map(os.path.realpath, pictures)))


def open_clip(file: str, fps: Fraction) -> Source:
    """Opens a clip by its name in the list. A folder of pictures plays at `fps` frames per second.

    Raises ValueError, or an OSError, that names the file.
    """
    path = contained_path(file)
    if not os.path.isdir(path):
        return open_source(path, display_name(file), free_memory())
    if not fps:
        raise ValueError(
            f"{display_name(file)} is a folder of pictures, which has no rate of its own: set fps."
        )
    pictures = [os.path.join(path, name) for name in pictures_in(path, os.stat(path).st_mtime_ns)]
    for picture in pictures:
        if not is_contained(os.path.realpath(picture)):
            raise ValueError(
                f"{display_name(file).rstrip('/')}/{os.path.basename(picture)} is a link to a file outside ComfyUI's folders. "
                "Copy the file itself there."
            )
    return ImageFolderSource(pictures, display_name(file), fps, free_memory())


def clip_fingerprint(file: str | None) -> str | float:
    """Text that changes when the file does, or one of the pictures of the folder.

    NaN, which the host takes for a change, for a linked input: it has no name yet.
    """
    if file is None:
        return float("nan")  # not one that was given before: the host's cache asks `is` first
    path = contained_path(file)
    names = [os.path.join(path, name) for name in sorted(os.listdir(path))] if os.path.isdir(path) else [path]
    digest = hashlib.sha256()
    for name in names:
        status = os.stat(name)
        digest.update(f"{name}:{status.st_mtime_ns}:{status.st_size}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def check_clip(file: object) -> bool | str:
    """True for a clip that can be opened and for a linked input, which has no name yet, else a sentence for the page."""
    if file is None:
        return True
    try:
        file = clip_name(file)
    except ValueError as error:
        return str(error)
    name = display_name(file)
    try:
        path = contained_path(file)
        status = os.stat(path)
        if os.path.isdir(path):
            found = pictures_in(path, status.st_mtime_ns)
            return bool(found) or f"{name} holds no pictures with numbers in their names, such as 0001.png."
        if not os.path.isfile(path):
            return f"{name} is not a file. Choose or upload a video."
        if is_still_image(path):
            return f"{name} is a still picture. Choose a video or animation, or use Load Image."
    except PermissionError:
        return f"{name} can't be read. Change its permissions or upload the video again."
    except (ValueError, OSError):
        folder = next((kind for kind in ("output", "temp") if file.endswith(f"[{kind}]")), "input")
        return f"{name} is not in ComfyUI's {folder} folder. Choose or upload a video."
    return True


def clip_name(file: object) -> str:
    """What a client sends or a link brings, if it is a clip's name; ValueError where it is empty or no text."""
    if not isinstance(file, str):
        raise ValueError(
            f"file must be the name of a clip, but is of type {type(file).__name__}. Choose or upload a video."
        )
    if not folder_paths.annotated_filepath(file)[0].strip("/. "):
        raise ValueError("No clip is chosen. Choose or upload a video.")
    return file


def is_contained(path: str) -> bool:
    """Whether a real path lies in the input, output or temp folder."""
    folders = (
        folder_paths.get_input_directory(),
        folder_paths.get_output_directory(),
        folder_paths.get_temp_directory(),
    )
    return any(folder_paths.is_within_directory(folder, path) for folder in folders)


def contained_path(file: str) -> str:
    """The real path of a file of the input, output or temp folder; ValueError when it leads out of them."""
    path = os.path.realpath(folder_paths.get_annotated_filepath(clip_name(file)))
    if is_contained(path):
        return path
    raise ValueError(
        f"{display_name(file)} lies outside the input, output and temp folders. Upload the video again."
    )


def display_name(file: str) -> str:
    """The name alone, without what stands before it and annotation, for messages; a folder's ends with a slash."""
    name = folder_paths.annotated_filepath(file)[0]
    return os.path.basename(name) or f"{os.path.basename(name.rstrip('/'))}/"


def free_memory() -> Limits:
    """Limits with the memory that is free where the images will live."""
    device = comfy.model_management.intermediate_device()
    return Limits(max_bytes=comfy.model_management.get_free_memory(device))
