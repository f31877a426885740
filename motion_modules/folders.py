"""The model folders, under the names that AnimateDiff users already have in their extra_model_paths.yaml."""

from __future__ import annotations

import os

import folder_paths

MOTION_MODULES = "animatediff_models"
MOTION_LORAS = "animatediff_motion_lora"


def register_model_folders() -> None:
    """Adds both folders after any configured paths, and lists only weights files in them."""
    for key in (MOTION_MODULES, MOTION_LORAS):
        folder_paths.add_model_folder_path(key, os.path.join(folder_paths.models_dir, key))
        paths, extensions = folder_paths.folder_names_and_paths[key]
        # A key new to the host has no extensions, which means every file. Its sets are shared: replace, don't update.
        if not extensions:
            folder_paths.folder_names_and_paths[key] = (paths, folder_paths.supported_pt_extensions)
