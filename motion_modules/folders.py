"""The model folders, under the names that AnimateDiff users already have in their extra_model_paths.yaml."""

from __future__ import annotations

import os
from contextlib import suppress

import folder_paths

MOTION_MODULES = "animatediff_models"
MOTION_LORAS = "animatediff_motion_lora"


def register_model_folders() -> None:
    """Adds both folders after any configured paths, makes them, and lists only weights files in them."""
    for key in (MOTION_MODULES, MOTION_LORAS):
        folder = os.path.join(folder_paths.models_dir, key)
        with suppress(OSError):  # where models are kept on a disk that can't be written
            os.makedirs(folder, exist_ok=True)
        folder_paths.add_model_folder_path(key, folder)
        paths, extensions = folder_paths.folder_names_and_paths[key]
        # A key new to the host has no extensions, which means every file. Its sets are shared: replace, don't update.
        if not extensions:
            folder_paths.folder_names_and_paths[key] = (paths, folder_paths.supported_pt_extensions)


def listed_name(folder: str, name: str) -> str | None:
    """The name as the folder's list has it, whichever system's separators a shared workflow brings; None if absent."""
    names = folder_paths.get_filename_list(folder)
    if name in names:
        return name
    wanted = name.replace("\\", "/")
    return next((listed for listed in names if listed.replace("\\", "/") == wanted), None)


def model_path(folder: str, name: str) -> str:
    """Where a listed file is.

    Errors: ValueError where the folder has no such file, or no longer.
    """
    path = folder_paths.get_full_path(folder, listed_name(folder, name) or name)
    if path is None:
        raise ValueError(f"{name} is not in models/{folder}. Put it there and press R on the page.")
    return path
