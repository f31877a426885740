"""The downloader against a stand-in for the hub on loopback, with the real huggingface_hub."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "bootstrap" / "download_models.py"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "weights.safetensors"


def load_script():
    spec = importlib.util.spec_from_file_location("download", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["download"] = module
    sys.path.insert(0, str(SCRIPT.parent))  # as it is when the script is run
    spec.loader.exec_module(module)
    return module


download = load_script()


class Hub(ThreadingHTTPServer):
    """Serves one file as the hub does: a redirect with its size and sha256 to a second host, which knows ranges."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.starts: list[int] = []  # where each download of the content began
        self.stall_at: int | None = None  # bytes after which the server goes silent
        self.status: tuple[int, dict[str, str]] | None = None  # answers with this error instead
        self.silence = threading.Event()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(send_body=False)

    def do_GET(self) -> None:
        self.answer(send_body=True)

    def answer(self, send_body: bool) -> None:
        hub: Hub = self.server
        if hub.status:
            self.reply(hub.status[0], hub.status[1] | {"Content-Length": "0"})
        elif self.path.startswith("/cdn/"):
            start = int(re.sub(r"\D", "", self.headers.get("Range", "0")))
            self.reply(206 if start else 200, {"Content-Length": str(len(hub.content) - start)})
            if send_body:
                self.send_content(start)
        else:
            assert self.path in (f"/maker/repo/resolve/{ref}/deep/{NAME}" for ref in ("main", COMMIT))
            place = f"http://localhost:{hub.server_port}/cdn/{hub.sha256}"
            linked = {"X-Linked-Etag": f'"{hub.sha256}"', "X-Linked-Size": str(len(hub.content))}
            self.reply(302, {"Location": place, "X-Repo-Commit": COMMIT, "Content-Length": "0"} | linked)

    def send_content(self, start: int) -> None:
        hub: Hub = self.server
        hub.starts.append(start)
        if hub.stall_at is None:
            self.wfile.write(hub.content[start:])
        else:
            self.wfile.write(hub.content[start : hub.stall_at])
            hub.silence.wait(60)

    def reply(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Keeps the test's output clean."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub(random.Random(3).randbytes(200_000))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.silence.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def comfyui(tmp_path: Path) -> Path:
    (tmp_path / "ComfyUI" / "models").mkdir(parents=True)
    return tmp_path / "ComfyUI"


@pytest.fixture
def target(comfyui: Path) -> Path:
    return comfyui / "models" / "loras" / NAME


def command(
    comfyui: Path, hub: Hub, size: int | None = None, sha256: str | None = None
) -> tuple[list[str], dict]:
    entry = {
        "name": NAME,
        "folder": "loras",
        "url": f"https://huggingface.co/maker/repo/resolve/main/deep/{NAME}",
        "bytes": size,
        "sha256": sha256,
        "licence": "CC0",
        "credit": "the maker",
    }
    listed = comfyui.parent / "list.json"
    listed.write_text(json.dumps({"models": [entry]}))
    env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    env |= {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HOME": str(comfyui.parent / "hf")}
    return [sys.executable, str(SCRIPT), "--comfyui", str(comfyui), "--list", str(listed)], env


def run(comfyui: Path, hub: Hub, *arguments: str, **entry: int | str) -> subprocess.CompletedProcess[str]:
    words, env = command(comfyui, hub, **entry)
    return subprocess.run(
        [*words, *arguments], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def leftovers(comfyui: Path) -> list[str]:
    return [path.name for path in (comfyui / "models").rglob("*") if path.is_file()]


def test_a_file_arrives_under_its_name_and_nothing_else_is_left(
    comfyui: Path, hub: Hub, target: Path
) -> None:
    done = run(comfyui, hub, "--yes", size=len(hub.content), sha256=hub.sha256)
    assert done.returncode == 0, done.stdout + done.stderr
    assert target.read_bytes() == hub.content
    assert leftovers(comfyui) == [NAME]
    assert "the sha256 in the list" in done.stdout


def test_without_a_known_hash_the_hubs_own_is_used_and_that_is_said(
    comfyui: Path, hub: Hub, target: Path
) -> None:
    done = run(comfyui, hub, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert target.read_bytes() == hub.content
    assert "the hub's own sha256; the list has none" in done.stdout


def test_nothing_is_downloaded_before_someone_agrees(comfyui: Path, hub: Hub) -> None:
    done = run(comfyui, hub)
    assert done.returncode == 1
    assert hub.starts == [] and leftovers(comfyui) == []
    assert "0.2 MB in 1 files" in done.stdout and "--yes" in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="Windows has no interrupt for one process")
def test_an_interrupted_download_continues_where_it_stopped(comfyui: Path, hub: Hub, target: Path) -> None:
    hub.content = random.Random(4).randbytes(24_000_000)
    hub.sha256 = hashlib.sha256(hub.content).hexdigest()
    hub.stall_at = 22_000_000  # huggingface_hub writes in blocks of 10 MB: two of them arrive
    words, env = command(comfyui, hub)
    process = subprocess.Popen(
        [*words, "--yes"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    waiting = target.with_name(f"{NAME}.{hub.sha256[:8]}.partial")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (waiting.exists() and waiting.stat().st_size >= 20_000_000):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert "continues from there" in process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert not target.exists()
    stopped_at = waiting.stat().st_size
    assert stopped_at >= 20_000_000

    hub.stall_at = None
    done = run(comfyui, hub, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "incomplete" in done.stdout
    assert hub.starts == [0, stopped_at]
    assert target.read_bytes() == hub.content
    assert leftovers(comfyui) == [NAME]


def test_a_file_other_than_the_one_in_the_list_is_refused_before_the_download(
    comfyui: Path, hub: Hub
) -> None:
    for entry in ({"sha256": "0" * 64}, {"size": 5}):
        done = run(comfyui, hub, "--yes", **entry)
        assert done.returncode == 1
        assert "is not the one in the list" in done.stdout
    assert hub.starts == [] and leftovers(comfyui) == []


def test_only_the_files_that_are_asked_for_are_looked_at(comfyui: Path, hub: Hub) -> None:
    done = run(comfyui, hub, "--yes", "--only", "lora_pan", "checkpoints")
    assert done.returncode == 1 and hub.starts == []
    assert "No file of the list has lora_pan or checkpoints in its folder or name." in done.stderr
    assert run(comfyui, hub, "--yes", "--only", "nothing", "LORAS").returncode == 0
    assert leftovers(comfyui) == [NAME]


def test_damaged_bytes_never_get_the_name(comfyui: Path, hub: Hub) -> None:
    promised = hub.sha256
    hub.content = bytes(len(hub.content))
    hub.sha256 = promised
    done = run(comfyui, hub, "--yes")
    assert done.returncode == 1
    assert "damaged" in done.stdout
    assert leftovers(comfyui) == []


def test_a_good_file_is_kept_and_the_hub_is_not_asked(comfyui: Path, hub: Hub, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(hub.content)
    hub.status = (500, {})
    done = run(comfyui, hub, "--yes", size=len(hub.content))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything is there." in done.stdout


def test_another_file_of_that_name_is_left_alone_and_named(comfyui: Path, hub: Hub, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"mine")
    done = run(comfyui, hub, "--yes")
    assert done.returncode == 1
    assert target.read_bytes() == b"mine"
    assert f"{target} has another size than expected" in done.stdout


def test_no_network_says_so_once(comfyui: Path, hub: Hub) -> None:
    hub.server_close()  # the port is closed now
    done = run(comfyui, hub, "--yes")
    assert done.returncode == 1
    assert done.stdout.count("Check the network") == 1
    assert "Traceback" not in done.stderr


def test_a_gated_file_says_where_to_accept_its_terms(comfyui: Path, hub: Hub) -> None:
    hub.status = (403, {"X-Error-Code": "GatedRepo"})
    done = run(comfyui, hub, "--yes")
    assert done.returncode == 1
    assert "Accept the terms on https://huggingface.co/maker/repo" in done.stdout


def test_a_file_that_has_gone_from_the_hub_is_named(comfyui: Path, hub: Hub) -> None:
    hub.status = (404, {"X-Error-Code": "EntryNotFound"})
    done = run(comfyui, hub, "--yes")
    assert done.returncode == 1
    assert f"{NAME}: it is no longer at" in done.stdout


def test_too_small_a_disk_is_noticed_before_the_download(tmp_path: Path) -> None:
    more_than_any_disk = 1 << 60
    assert "Not enough space" in download.space_problem([(tmp_path / "not" / "there", more_than_any_disk)])
    half = download.shutil.disk_usage(tmp_path).free // 2
    assert download.space_problem([(tmp_path, half)]) is None
    assert "Not enough space" in download.space_problem(
        [(tmp_path, half), (tmp_path / "loras", half + 2**30)]
    )


def test_a_folder_that_is_no_comfyui_is_refused(tmp_path: Path) -> None:
    with pytest.raises(download.DownloadError, match="--comfyui PATH"):
        download.find_models_folder(None)
    with pytest.raises(download.DownloadError, match="must name the folder of a ComfyUI"):
        download.find_models_folder(str(tmp_path))


def test_the_list_names_flat_files_with_hub_addresses() -> None:
    wanted = download.read_list(sys.modules["which_models"].LIST, Path("models"))
    assert len({weights.name for weights in wanted}) == len(wanted) == 14
    for weights in wanted:
        repo, path = weights.repo_and_path
        assert path.split("/")[-1] == weights.name == weights.target.name
        assert weights.url == f"https://huggingface.co/{repo}/resolve/main/{path}"
        folders = ("checkpoints", "animatediff_models", "animatediff_motion_lora", "loras", "controlnet")
        assert weights.folder in (*folders, "frame_interpolation")
        assert weights.sha256 is None or re.fullmatch("[0-9a-f]{64}", weights.sha256)
        assert weights.licence and weights.credit


def test_the_list_is_not_offered_as_a_workflow_template() -> None:
    """The host shows every json file at the top of `workflows/` among its templates."""
    assert sys.modules["which_models"].LIST.parent != SCRIPT.parents[1] / "workflows"
