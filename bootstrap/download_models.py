"""Shows, then downloads the weights that the workflows name into a ComfyUI's model folders: resumable and checked.

Run it as `python3 dev.py models`, or with the Python of a ComfyUI, which has huggingface_hub:
`python custom_nodes/fast-animatediff/bootstrap/download_models.py`.
"""

from __future__ import annotations

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
from which_models import PACK, DownloadError, choose, models_arguments, own_checkpoint

HUB = "https://huggingface.co/"
AGAIN = "then run the same command again; it continues where it stopped."


class NoConnection(DownloadError):
    """The hub does not answer, so asking for further files is pointless."""


@dataclass
class Weights:
    """One file of the list. `bytes` and `sha256` are None where only the hub knows them, until it is asked; until then
    `about_bytes` has the size that its page shows."""

    name: str
    folder: str
    url: str
    bytes: int | None
    sha256: str | None
    licence: str
    credit: str
    target: Path
    about_bytes: int = 0
    commit: str | None = None  # of the hub's file, once asked
    is_listed: bool = False  # whether the list itself has the sha256

    @property
    def repo_and_path(self) -> list[str]:
        return self.url[len(HUB) :].split("/resolve/main/")

    @property
    def partial(self) -> Path:
        """An unfinished download. The hash in its name keeps it from being continued with another file."""
        return self.target.with_name(f"{self.name}.{(self.sha256 or '')[:8]}.partial")

    @property
    def bytes_left(self) -> int:
        return (self.bytes or 0) - (self.partial.stat().st_size if self.partial.exists() else 0)

    @property
    def state(self) -> str:
        """What is on the disk: `present` (of the right size), `wrong size`, `incomplete` or `missing`."""
        if not self.target.exists():
            return "incomplete" if self.sha256 and self.partial.exists() else "missing"
        if self.bytes is None:
            return "present, size unknown"
        return "present" if self.target.stat().st_size == self.bytes else "wrong size"

    def ask_hub(self) -> None:
        """Completes size and sha256; raises DownloadError where the hub's file differs or can't be had."""
        try:
            found = get_hf_file_metadata(hf_hub_url(*self.repo_and_path), timeout=20)
        except (HTTPError, OSError) as error:
            raise self.explain(error) from error
        sha256 = (found.etag or "").lower()
        if not re.fullmatch("[0-9a-f]{64}", sha256) or not found.size or not found.commit_hash:
            raise DownloadError(
                f"{self.name}: the hub gave no size and sha256 to check it by; it was not downloaded."
            )
        if sha256 != (self.sha256 or sha256) or found.size != (self.bytes or found.size):
            raise DownloadError(
                f"{self.name}: the hub's file is not the one in the list (sha256 {sha256}, {found.size} bytes, "
                f"instead of {self.sha256}, {self.bytes} bytes); it was not downloaded."
            )
        self.bytes, self.sha256, self.commit = found.size, sha256, found.commit_hash

    def download(self) -> None:
        """Fetches the rest of the file, checks size and sha256, and only then gives it its name."""
        self.target.parent.mkdir(parents=True, exist_ok=True)
        if self.bytes_left < 0:
            self.partial.unlink()
        url = hf_hub_url(*self.repo_and_path, revision=self.commit)
        try:
            # Not hf_hub_download: of huggingface_hub 2 it deletes what has arrived when it is interrupted.
            with self.partial.open("ab") as file:
                http_get(
                    url,
                    file,
                    resume_size=file.tell(),
                    headers={**build_hf_headers(), "Accept-Encoding": "identity"},
                    expected_size=self.bytes,
                    displayed_filename=self.name,
                )
        except (HTTPError, OSError) as error:
            raise self.explain(error) from error
        if self.bytes_left or file_sha256(self.partial) != self.sha256:
            self.partial.unlink()
            raise DownloadError(
                f"{self.name}: what arrived is damaged (sha256) and was deleted. Run the command again."
            )
        if self.target.exists():
            raise DownloadError(
                f"{self.target} appeared meanwhile and was left alone; the download is in {self.partial.name}."
            )
        os.replace(self.partial, self.target)

    def explain(self, error: Exception) -> DownloadError:
        """A failed request or a failed write, as a sentence with the next step."""
        if isinstance(error, GatedRepoError):
            terms = f"Accept the terms on {HUB}{self.repo_and_path[0]}, run `hf auth login`"
            return DownloadError(f"{self.name}: access is gated. {terms}, {AGAIN}")
        if isinstance(error, RepositoryNotFoundError | EntryNotFoundError):
            return DownloadError(f"{self.name}: it is no longer at {self.url}.")
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return DownloadError(f"{self.name}: the disk is full. Make room, {AGAIN}")
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return NoConnection(f"{self.name}: no connection to the hub ({reason}). Check the network, {AGAIN}")


def read_list(path: Path, models: Path) -> list[Weights]:
    entries = json.loads(path.read_text(encoding="utf-8"))["models"]
    return [
        Weights(**entry, target=models / entry["folder"] / entry["name"], is_listed=bool(entry["sha256"]))
        for entry in entries
    ]


def without_checkpoint(wanted: list[Weights], models: Path) -> list[Weights]:
    """Leaves the checkpoint out, and says so, where another one of its kind is there already."""
    lacking = [
        weights for weights in wanted if weights.folder == "checkpoints" and weights.state == "missing"
    ]
    own = own_checkpoint(models) if lacking else None
    if own is None:
        return wanted
    for weights in lacking:
        print(f"{own} is an SD1.5 checkpoint: choose it in Load Checkpoint instead of {weights.name}.")
        print(f"For that one too ({readable(weights.bytes or weights.about_bytes)}): --only {weights.name}\n")
    return [weights for weights in wanted if weights not in lacking]


def find_models_folder(named: str | None) -> Path:
    """The models folder of a ComfyUI: the named one, else the one whose custom_nodes this pack lies in.

    Errors: DownloadError where there is none.
    """
    if not named and PACK.parent.name == "custom_nodes":
        named = str(PACK.parents[1])
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


def space_problem(needs: Iterable[tuple[Path, int]]) -> str | None:
    """A sentence if the disks can't hold the downloads. `needs`: folders with bytes; folders may share a disk."""
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


def file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def ask_about(wanted: list[Weights]) -> list[str]:
    """Asks the hub about every file that is not clearly present; returns what went wrong."""
    problems = []
    for weights in wanted:
        if weights.state == "present":
            continue
        try:
            weights.ask_hub()
        except DownloadError as problem:
            problems.append(str(problem))
            if isinstance(problem, NoConnection):
                break
    different = [weights.target for weights in wanted if weights.state == "wrong size"]
    return problems + [
        f"{path} has another size than expected and was left alone. Move it away first." for path in different
    ]


def show(wanted: list[Weights], models: Path) -> None:
    """The table of files, then who made them."""
    print(f"The weights that the workflows name, in {models}\n")
    for weights in wanted:
        about = f"~{readable(weights.about_bytes)}" if weights.about_bytes else "?"
        size = readable(weights.bytes) if weights.bytes else about
        print(f"  {weights.name:<48} {weights.folder:<24} {size:>9}  {weights.state}")
    print()
    for licence, credit in dict.fromkeys((weights.licence, weights.credit) for weights in wanted):
        print(f"  {credit}\n    licence: {licence}")
    print()


def agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        print("Nothing was downloaded: run it in a terminal and answer yes, or add --yes.")
        return False
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def offer(missing: list[Weights], models: Path, yes: bool) -> None:
    """Says how much is to come, asks unless `yes`, and downloads; a file that fails does not stop the others.

    Errors: DownloadError where the disk is too small, NoConnection where the hub no longer answers.
    """
    needs = [(weights.target.parent, weights.bytes_left) for weights in missing]
    problem = space_problem(needs)
    if problem:
        raise DownloadError(problem)
    total, free = readable(sum(size for _, size in needs)), readable(shutil.disk_usage(models).free)
    print(f"To download: {total} in {len(missing)} files. Free on the disk of {models}: {free}.")
    if not yes and not agreed("Download?"):
        return
    for number, weights in enumerate(missing, 1):
        known = "the sha256 in the list" if weights.is_listed else "the hub's own sha256; the list has none"
        place = f"{weights.folder}/{weights.name}"
        print(f"[{number}/{len(missing)}] {place} (checked against {known})", flush=True)
        try:
            weights.download()
        except NoConnection:
            raise
        except DownloadError as problem:
            print(f"  {problem}", flush=True)


def main(arguments: list[str]) -> int:
    options = models_arguments().parse_args(arguments)
    models = find_models_folder(options.comfyui or os.environ.get("COMFYUI_PATH"))
    wanted = choose(read_list(options.list, models), options.only, options.workflow)
    if not any(
        word.lower() in weights.name.lower()
        for word in options.only
        for weights in wanted
        if weights.folder == "checkpoints"
    ):
        wanted = without_checkpoint(wanted, models)
    problems = ask_about(wanted)
    show(wanted, models)
    print("".join(f"{problem}\n" for problem in problems), end="")
    missing = [weights for weights in wanted if weights.commit and not weights.target.exists()]
    if missing:
        offer(missing, models, options.yes)
    lacking = sum(not weights.state.startswith("present") for weights in wanted)
    print(f"{lacking} of {len(wanted)} files are missing." if lacking else "Everything is there.")
    return 1 if lacking else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except DownloadError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print("\nWhat has arrived is kept; the same command continues from there.", file=sys.stderr)
        sys.exit(130)
