"""What a person or a machine gets wrong: it is said in words, and nothing stops that could go on."""

from __future__ import annotations

import asyncio
import io
import sys
import time
from pathlib import Path

import pytest
from aiohttp import web

from fast_animatediff.benchmarks.cluster.sleeper import VIDEO, line, write_manifest
from fast_animatediff.fleet import render
from fast_animatediff.fleet.arguments import render_arguments
from fast_animatediff.fleet.digests import read_model_sizes
from fast_animatediff.fleet.ledger import FILE_NAME
from fast_animatediff.fleet.options import BadOption, comfy, worker_size
from fast_animatediff.fleet.progress import Display
from fast_animatediff.fleet.worker import Comfy, Worker
from fast_animatediff.tests.endpoints.network import serving

# In the place of ComfyUI: ends in the middle of its third answer, the first time it is started.
DIES = """
import os, sys, threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
folder, port, asked = Path(sys.argv[1]).parent, int(sys.argv[sys.argv.index("--port") + 1]), []
class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", 100)
        self.end_headers()
        if len(asked) == 3 and not (folder / "died").exists():
            (folder / "died").touch()
            self.wfile.write(b"{")
            self.wfile.flush()
            sys.exit(1)
        (folder / "environment").write_text("\\n".join([*os.environ, *sys.argv]))
        self.wfile.write(b'{"devices": []}'.ljust(100))
    def log_message(self, *_): pass
TCPServer.allow_reuse_address = True
TCPServer(("127.0.0.1", port), Answer).serve_forever()
"""


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--attempts", "0"], "--attempts has to be at least 1"),
        (["--input", "[1]"], "--input has to be an object"),
        (["--per-node", "0"], "--per-node has to be at least 1"),
        (["--hang-seconds", "nan"], "--hang-seconds has to be above 0"),
    ],
)
def test_an_argument_that_makes_no_sense_is_named(tmp_path: Path, more: list[str], words: str) -> None:
    what = ["--videos", str(tmp_path), "--endpoint", VIDEO, "--prompt", "a", "--out", str(tmp_path / "out")]
    options = render_arguments().parse_args([*what, *more])
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(BadOption, match=words):
        render.read_items(options)
        worker_size(options)
        comfy(options, ())


def test_results_never_take_the_place_of_the_videos_or_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    videos = ["--videos", str(tmp_path), "--endpoint", VIDEO, "--prompt", "a"]
    one = ["--one", str(write_manifest(tmp_path / "one.json", [line("one")]))]
    for what, words in ((videos, "another folder than --videos"), (one, "a file with --one")):
        options = render_arguments().parse_args([*what, "--out", str(tmp_path / "." / "")])
        with pytest.raises(BadOption, match=words):
            render.read_items(options)


def test_a_folder_whose_ledger_cannot_be_opened_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = io.StringIO()
    (tmp_path / "out" / FILE_NAME).mkdir(parents=True)
    manifest = write_manifest(tmp_path / "manifest.jsonl", [line("one")])
    monkeypatch.setattr(sys, "argv", ["render", str(manifest), "--out", str(tmp_path / "out")])
    monkeypatch.setattr(render, "Display", lambda as_json: Display(as_json, said))
    assert render.main() == 2
    assert said.getvalue() == "Nothing was rendered: unable to open database file\n"


def test_a_comfyui_below_a_path_is_asked_there_for_its_models() -> None:
    async def answer(request: web.Request) -> web.Response:
        found = {
            "/gpu/experiment/models": [{"name": "loras"}],
            "/gpu/experiment/models/loras": [{"name": "a.ckpt", "size": 3}],
        }
        return web.json_response(found[request.path])

    async def scenario() -> None:
        async with serving(answer) as port:
            assert await read_model_sizes(f"http://127.0.0.1:{port}/gpu") == {"a.ckpt": [("loras", 3)]}

    asyncio.run(scenario())


def test_a_comfyui_that_dies_in_the_middle_of_an_answer_is_started_again(tmp_path: Path) -> None:
    for name in ("models", "custom_nodes"):
        (tmp_path / name).mkdir()
    (tmp_path / "main.py").write_text("")
    worker = Worker(Comfy(str(tmp_path), sys.executable, str(tmp_path), DIES), "127.0.0.1")
    try:
        deadline = time.monotonic() + 30
        while not ((told := worker.report())["starts"] == 2 and told["state"] == "ready"):
            assert time.monotonic() < deadline, told
            time.sleep(0.05)
    finally:
        worker.end()
    names = (tmp_path / "environment").read_text().splitlines()
    assert "OMP_WAIT_POLICY" in names and "FAD_ENDPOINTS_ENABLED" not in names
    assert int(names[names.index("--max-upload-size") + 1]) > 1000  # a night's videos may be long
