"""The calls that README.md and `python3 dev.py serve` print do what they say when they are pasted into a shell."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from fast_animatediff.dev_server.host import ROOT
from fast_animatediff.dev_server.snippets import snippets
from fast_animatediff.tests.endpoints.served import SECONDS, Served
from fast_animatediff.tests.endpoints.web.test_javascript_client import FOLDERS, HAS_CLIENT

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(not shutil.which("bash"), reason="the calls are for a Unix shell"),
]
USUAL = "http://127.0.0.1:8188"


def paste(text: str, folder: Path) -> str:
    """What a shell in a folder prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAL_")}
    command = ["bash", "-euc", f"FAL_KEY=any\n{text}"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def without_installing(text: str) -> str:
    first, _, rest = text.partition("\n")
    assert " install " in first
    return rest


def is_a_video(served: Served, output: str) -> bool:
    url = re.search(r"https?://[^\s'\"]+", output)[0]
    return httpx.get(url, verify=served.trust if url.startswith("https") else True).content[4:8] == b"ftyp"


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_the_curl_calls_give_a_video(served: Served, tmp_path: Path) -> None:
    blocks = re.findall(
        r"```bash\n(curl .+?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert len(blocks) == 1 and USUAL in blocks[0]
    printed = snippets(served.address, served.secure, served.certificate.authority)["cURL"]
    for text in (blocks[0].replace(USUAL, served.address), printed):
        video = json.loads(paste(text, tmp_path))["video"]
        assert len(served.http.get(video["url"]).content) == video["file_size"]


def test_the_python_call_shows_the_steps_and_gives_a_video(served: Served, tmp_path: Path) -> None:
    text = snippets(served.address, served.secure, served.certificate.authority)["Python"]
    (tmp_path / "fal" / "bin").mkdir(parents=True)
    (tmp_path / "fal" / "bin" / "python").symlink_to(sys.executable)
    python = f'export PYTHONPATH="{os.pathsep.join(path for path in sys.path if "site-packages" in path)}"\n'
    output = paste(python + without_installing(text), tmp_path)
    assert is_a_video(served, output.splitlines()[-1])


@pytest.mark.skipif(not HAS_CLIENT, reason="needs Node.js and @fal-ai/client (NODE_PATH)")
def test_the_javascript_call_shows_the_steps_and_gives_a_video(served: Served, tmp_path: Path) -> None:
    text = snippets(served.address, served.secure, served.certificate.authority)["JavaScript"]
    installed = next(folder for folder in FOLDERS if Path(folder, "@fal-ai", "client").is_dir())
    (tmp_path / "node_modules").symlink_to(installed)
    assert is_a_video(served, paste(without_installing(text), tmp_path))
