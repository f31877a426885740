"""Shows, then downloads the weights that the workflows name into a ComfyUI's model folders: resumable and checked.

Run it as `python3 dev.py models`, or by itself wherever huggingface_hub is installed.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HTTPError, RepositoryNotFoundError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers

LIST = Path(__file__).resolve().parents[1] / "workflows" / "models" / "models.json"
HUB = "https://huggingface.co/"


class DownloadError(RuntimeError):
    """Why a file was not downloaded and what to do next, written for the console."""


class NoConnection(DownloadError):
    """The hub does not answer, so that asking for further files is of no use."""


@dataclass(frozen=True)
class Weights:
    """One file of the list. `bytes` and `sha256` are None where only the hub knows them."""

    name: str
    folder: str
    url: str
    bytes: int | None
    sha256: str | None
    licence: str
    credit: str

    @property
    def repo(self) -> str:
        return self.url[len(HUB) :].split("/resolve/main/")[0]

    @property
    def path(self) -> str:
        return self.url.split("/resolve/main/")[1]


@dataclass(frozen=True)
class Remote:
    """What the hub says about a file: its size in bytes, its sha256, and the commit that both belong to."""

    bytes: int
    sha256: str
    commit: str


def read_list(path: Path) -> list[Weights]:
    return [Weights(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))["models"]]


def find_models_folder(named: str | None) -> Path:
    """The models folder of a ComfyUI; raises DownloadError where there is none."""
    if not named:
        raise DownloadError(
            "Which ComfyUI gets the files? Name its folder: --comfyui PATH (or set COMFYUI_PATH)."
        )
    models = Path(named).expanduser().resolve() / "models"
    if not models.is_dir():
        raise DownloadError(
            f"{models} is not a folder. --comfyui must name the folder of a ComfyUI, with models in it."
        )
    return models


def ask_hub(weights: Weights) -> Remote:
    """Size and sha256 of a file on the hub; raises DownloadError where it differs from the list or can't be had."""
    try:
        found = get_hf_file_metadata(hf_hub_url(weights.repo, weights.path), timeout=20)
    except (HTTPError, OSError) as error:
        raise explain(error, weights) from error
    sha256 = (found.etag or "").lower()
    if not re.fullmatch("[0-9a-f]{64}", sha256) or not found.size or not found.commit_hash:
        raise DownloadError(
            f"{weights.name}: the hub gave no size and sha256 to check it by; it was not downloaded."
        )
    if sha256 != (weights.sha256 or sha256) or found.size != (weights.bytes or found.size):
        raise DownloadError(
            f"{weights.name}: the hub's file is not the one in the list (sha256 {sha256}, {found.size} bytes, instead "
            f"of {weights.sha256}, {weights.bytes} bytes); it was not downloaded."
        )
    return Remote(found.size, sha256, found.commit_hash)


def explain(error: Exception, weights: Weights) -> DownloadError:
    """A failed request or a failed write, as a sentence with the next step."""
    again = "then run the same command again; it goes on from there."
    if isinstance(error, GatedRepoError):
        terms = f"Accept the terms on {HUB}{weights.repo}, run `hf auth login`"
        return DownloadError(f"{weights.name}: access is gated. {terms}, {again}")
    if isinstance(error, RepositoryNotFoundError | EntryNotFoundError):
        return DownloadError(f"{weights.name}: it is no longer at {weights.url}.")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return DownloadError(f"{weights.name}: the disk is full. Make room, {again}")
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return NoConnection(f"{weights.name}: no connection to the hub ({reason}). Check the network, {again}")


def state(weights: Weights, target: Path, remote: Remote | None) -> str:
    """What is on the disk: `present` (of the right size), `wrong size`, `part of it` or `missing`."""
    if not target.exists():
        return "part of it" if remote and partial(target, remote).exists() else "missing"
    expected = weights.bytes or (remote.bytes if remote else None)
    if expected is None:
        return "present, size unknown"
    return "present" if target.stat().st_size == expected else "wrong size"


def partial(target: Path, remote: Remote) -> Path:
    """Where an unfinished download waits. Its name has the hash, so that it is never continued with another file."""
    return target.with_name(f"{target.name}.{remote.sha256[:8]}.partial")


def bytes_left(target: Path, remote: Remote) -> int:
    waiting = partial(target, remote)
    return remote.bytes - (waiting.stat().st_size if waiting.exists() else 0)


def space_problem(needs: Iterable[tuple[Path, int]]) -> str | None:
    """A sentence if the disks can't hold what is to come. `needs`: folders with bytes; folders may share a disk."""
    wanted: dict[int, tuple[Path, int]] = {}
    for folder, size in needs:
        while not folder.exists():
            folder = folder.parent
        disk = folder.stat().st_dev
        wanted[disk] = (folder, wanted.get(disk, (folder, 0))[1] + size)
    for folder, size in wanted.values():
        free = shutil.disk_usage(folder).free
        if size > free:
            return f"Not enough space on the disk of {folder}: {readable(size)} to download, {readable(free)} free."
    return None


def readable(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def download(weights: Weights, remote: Remote, target: Path) -> None:
    """Fetches the rest of a file, checks size and sha256, and only then gives it its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    waiting = partial(target, remote)
    if waiting.exists() and waiting.stat().st_size > remote.bytes:
        waiting.unlink()
    url = hf_hub_url(weights.repo, weights.path, revision=remote.commit)
    try:
        with waiting.open("ab") as file:
            http_get(
                url,
                file,
                resume_size=file.tell(),
                headers={**build_hf_headers(), "Accept-Encoding": "identity"},
                expected_size=remote.bytes,
                displayed_filename=weights.name,
            )
    except (HTTPError, OSError) as error:
        raise explain(error, weights) from error
    if waiting.stat().st_size != remote.bytes or file_sha256(waiting) != remote.sha256:
        waiting.unlink()
        raise DownloadError(
            f"{weights.name}: what arrived is damaged (sha256) and was deleted. Run the command again."
        )
    if target.exists():
        raise DownloadError(
            f"{target} appeared meanwhile and was left alone; the download waits in {waiting.name}."
        )
    os.replace(waiting, target)


def file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def ask_about(wanted: list[Weights], models: Path) -> tuple[dict[str, Remote], list[str]]:
    """Asks the hub about every file that is not plainly there; returns its answers by name, and what went wrong."""
    remotes, problems = {}, []
    for weights in wanted:
        if weights.bytes and state(weights, models / weights.folder / weights.name, None) == "present":
            continue
        try:
            remotes[weights.name] = ask_hub(weights)
        except DownloadError as problem:
            problems.append(str(problem))
            if isinstance(problem, NoConnection):
                break
    return remotes, problems


def show(wanted: list[Weights], states: dict[str, str], remotes: dict[str, Remote], models: Path) -> None:
    """The table of files, then whose they are."""
    print(f"The weights that the workflows name, in {models}\n")
    for weights in wanted:
        size = weights.bytes or (remotes[weights.name].bytes if weights.name in remotes else None)
        shown = readable(size) if size else "?"
        print(f"  {weights.name:<48} {weights.folder:<24} {shown:>9}  {states[weights.name]}")
    print()
    for licence, credit in dict.fromkeys((weights.licence, weights.credit) for weights in wanted):
        print(f"  {credit}\n    licence: {licence}")
    print()


def agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        print("Nothing was downloaded: run it on a terminal and answer yes, or add --yes.")
        return False
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def fetch_all(wanted: list[Weights], remotes: dict[str, Remote], models: Path) -> None:
    """Downloads one file after the other; says what went wrong and goes on, unless the connection is gone."""
    for number, weights in enumerate(wanted, 1):
        known = "the sha256 in the list" if weights.sha256 else "the hub's own sha256, the list has none"
        print(
            f"[{number}/{len(wanted)}] {weights.folder}/{weights.name} (checked against {known})", flush=True
        )
        try:
            download(weights, remotes[weights.name], models / weights.folder / weights.name)
        except NoConnection:
            raise
        except DownloadError as problem:
            print(f"  {problem}", flush=True)


def offer(wanted: list[Weights], remotes: dict[str, Remote], models: Path, yes: bool) -> None:
    """Says how much is to come, asks unless `yes`, and downloads; raises DownloadError if the disk is too small."""
    targets = [models / weights.folder / weights.name for weights in wanted]
    needs = [(target.parent, bytes_left(target, remotes[target.name])) for target in targets]
    problem = space_problem(needs)
    if problem:
        raise DownloadError(problem)
    total, free = readable(sum(size for _, size in needs)), readable(shutil.disk_usage(models).free)
    print(f"To download: {total} in {len(wanted)} files. Free on the disk of {models}: {free}.")
    if yes or agreed("Download?"):
        fetch_all(wanted, remotes, models)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="models", description=__doc__.splitlines()[0])
    parser.add_argument("--comfyui", metavar="PATH", help="the ComfyUI whose models folder gets the files")
    parser.add_argument("--yes", action="store_true", help="download without asking")
    parser.add_argument(
        "--list", type=Path, default=LIST, metavar="FILE", help="another list, in the form of models.json"
    )
    options = parser.parse_args(arguments)
    models = find_models_folder(options.comfyui or os.environ.get("COMFYUI_PATH"))
    wanted = read_list(options.list)
    targets = {weights.name: models / weights.folder / weights.name for weights in wanted}
    remotes, problems = ask_about(wanted, models)
    states = {w.name: state(w, targets[w.name], remotes.get(w.name)) for w in wanted}
    show(wanted, states, remotes, models)
    different = [targets[name] for name, found in states.items() if found == "wrong size"]
    problems += [
        f"{path} has another size than expected; it was left alone. Move it away first." for path in different
    ]
    print("".join(f"{problem}\n" for problem in problems), end="")
    missing = [w for w in wanted if w.name in remotes and not targets[w.name].exists()]
    if missing:
        offer(missing, remotes, models, options.yes)
    lacking = len(different) + sum(not target.exists() for target in targets.values())
    print(f"{lacking} of {len(wanted)} files are not there." if lacking else "Everything is there.")
    return 1 if lacking else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except DownloadError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print("\nWhat has arrived is kept; the same command goes on from there.", file=sys.stderr)
        sys.exit(130)
