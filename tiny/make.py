"""Writes the tiny family's model files under the names that the workflows ask for: `run_in_pack.py tiny.make --out DIR`.

DIR is a ComfyUI models folder. Files that don't belong to the tiny family are never replaced. The weights come from
`trained/`.
"""

from __future__ import annotations

import argparse
import os
import pickletools
import sys
import zipfile
from pathlib import Path

from .shipped import BACKWARDS, FOLDER, MARK, SHIPPED, opposite, read_metadata, unpack


def make_models(models: Path) -> list[Path]:
    """Writes the files that are missing or older in a models folder; returns those written.

    Errors: FileExistsError, before anything is written, where a name is taken by another model.
    """
    wanted = [name for name, shipped in SHIPPED.items() if read_mark(models / name) != mark_of(shipped)]
    for name in wanted:
        if (models / name).exists() and not read_mark(models / name).startswith("tiny "):
            raise FileExistsError(
                f"{models / name} already exists and does not belong to the tiny family. "
                "Choose another folder with --out."
            )
    return [write(models, name) for name in wanted]


def mark_of(shipped: str) -> str:
    return read_metadata(FOLDER / shipped)[MARK]


def write(models: Path, name: str) -> Path:
    """Writes safetensors, or a .ckpt where the published file is one; the name appears when it is complete."""
    # Only here: a call with nothing to do needs no torch, which takes a second to import.
    import safetensors.torch
    import torch

    path, shipped = models / name, SHIPPED[name]
    weights = unpack(safetensors.torch.load_file(FOLDER / shipped))
    if name in BACKWARDS:
        weights = opposite(weights)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    if path.suffix == ".ckpt":
        torch.save({MARK: mark_of(shipped), "state_dict": weights}, partial)
    else:
        safetensors.torch.save_file(weights, partial, metadata={MARK: mark_of(shipped)})
    os.replace(partial, path)
    return path


def read_mark(path: Path) -> str:
    """The mark of the tiny family in a weights file; empty if it has none or is no such file."""
    if not path.is_file():
        return ""
    return _mark_of_ckpt(path) if zipfile.is_zipfile(path) else read_metadata(path).get(MARK, "")


def _mark_of_ckpt(path: Path) -> str:
    """Reads the strings of the pickle without running it, and without torch."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith("/data.pkl"):
                strings = [
                    value for _, value, _ in pickletools.genops(archive.read(name)) if isinstance(value, str)
                ]
                return strings[strings.index(MARK) + 1] if MARK in strings else ""
    return ""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a ComfyUI models folder")
    options = parser.parse_args(arguments)
    try:
        written = make_models(options.out)
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    for path in written:
        print(f"  {path.relative_to(options.out)}  {path.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
