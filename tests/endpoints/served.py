"""A real ComfyUI with the endpoints on, also with TLS, the endpoints in a process of their own, and the two clients of
the hosted service as programs."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from fast_animatediff.dev_server.certificate import make_certificate
from fast_animatediff.dev_server.host import host_folder
from fast_animatediff.dev_server.server import ComfyServer
from fast_animatediff.endpoints.comfyui.filling import FOLDER
from fast_animatediff.fleet.worker import free_port

APP = "fal-ai/fast-animatediff"
TURBO = f"{APP}/turbo/text-to-video"
SMALL = {
    "prompt": "a red circle moving left",
    "num_frames": 2,
    "num_inference_steps": 2,
    "video_size": {"width": 64, "height": 64},
    "seed": 1,
}
# Of another seed each time: ComfyUI would answer at once what it has made before.
LONG = SMALL | {"num_frames": 8, "num_inference_steps": 50, "guidance_scale": 7.5, "seed": None}
SECONDS = 300.0  # for anything, on a busy machine


class Endpoints:
    """Endpoints at an address, asked with plain HTTP. base: the folder of their files."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.http = httpx.Client(timeout=SECONDS)

    @property
    def address(self) -> str:
        raise NotImplementedError

    def run(self, request: Mapping[str, Any], endpoint: str = TURBO, **headers: str) -> httpx.Response:
        return self.http.post(f"{self.address}/fal/run/{endpoint}", json=dict(request), headers=headers)

    def submit(
        self, request: Mapping[str, Any], query: str = "", endpoint: str = TURBO, **headers: str
    ) -> httpx.Response:
        url = f"{self.address}/fal/queue/{endpoint}{query}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.post(url, json=dict(request), headers=named)

    def submitted(self, request: Mapping[str, Any], endpoint: str = TURBO, **headers: str) -> str:
        answer = self.submit(request, endpoint=endpoint, **headers)
        assert answer.status_code == 200, answer.text
        return answer.json()["request_id"]

    def url(self, request_id: str) -> str:
        return f"{self.address}/fal/queue/{APP}/requests/{request_id}"

    def status(self, request_id: str) -> dict[str, Any]:
        return self.http.get(f"{self.url(request_id)}/status?logs=1").json()

    def result(self, request_id: str) -> httpx.Response:
        return self.http.get(self.url(request_id))

    def until(
        self, request_id: str, state: str, message: str = "", seconds: float = SECONDS
    ) -> dict[str, Any]:
        """The status, once it is `state`, with a log line that begins with `message`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            status = self.status(request_id)
            said = [line["message"] for line in status.get("logs") or []]
            if status["status"] == state and any(line.startswith(message) for line in said or [""]):
                return status
            assert status["status"] != "COMPLETED" or state == "COMPLETED", status
            time.sleep(0.05)
        raise TimeoutError(f"{request_id} did not become {state}: {status}")


class Served(Endpoints):
    """The server: `address` is its own, `secure` host:port of the endpoints' TLS port. `settings` go into the TOML file."""

    def __init__(self, base: Path, settings: Mapping[str, Any] | None = None) -> None:
        super().__init__(base)
        self.certificate = make_certificate(base / "certificate")
        self.secure = f"localhost:{free_port()}"
        self.server = ComfyServer(host_folder(), base, free_port())
        self.trust = ssl.create_default_context(cafile=self.certificate.authority)
        self.configure(settings or {})

    @property
    def address(self) -> str:
        return self.server.base_url

    def configure(self, settings: Mapping[str, Any]) -> None:
        """What the next start reads."""
        values = {
            "enabled": True,
            "listen": self.secure.replace("localhost", "127.0.0.1"),
            "tls_certfile": str(self.certificate.certificate),
            "tls_keyfile": str(self.certificate.key),
            "allowed_hosts": ["127.0.0.1"],
            "max_pixels": 64 * 64,  # of the calls that name no size
            **settings,
        }
        write_settings(self.base / "user", values, workflows_at_source_size(self.base))

    def start(self) -> Served:
        self.server.start(SECONDS)
        return self

    def stop(self) -> None:
        self.server.stop()
        self.http.close()

    def kill(self) -> None:
        os.kill(self.server.pid, signal.SIGKILL)
        self.server.stop()

    # ---- the clients, as programs

    def python(self, script: str) -> dict[str, Any]:
        """Runs a script in which `fal_client` is imported and leads here; returns what it prints last, as JSON."""
        env = os.environ | {
            "FAL_RUN_HOST": f"{self.secure}/fal/run",
            "FAL_QUEUE_RUN_HOST": f"{self.secure}/fal/queue",
            "SSL_CERT_FILE": str(self.certificate.authority),
            "FAL_KEY": "any",
        }
        head = f"import asyncio, json, fal_client\nAPP, INPUT, LONG = {TURBO!r}, {SMALL!r}, {LONG!r}\n"
        return last_json([sys.executable, "-I", "-c", head + script], env)

    def javascript(self, script: str) -> dict[str, Any]:
        """The same with `fal`, through the proxy path."""
        proxy = json.dumps({"url": f"{self.address}/fal/proxy", "when": "always"})
        head = f"""const {{ fal }} = require("@fal-ai/client");
        fal.config({{ proxyUrl: {proxy} }});
        const APP = {json.dumps(TURBO)}, INPUT = {json.dumps(SMALL)}, LONG = {json.dumps(LONG)};
        (async () => {{ {script} }})().catch((error) => {{ console.error(error); process.exit(1); }});"""
        return last_json(["node", "-e", head], dict(os.environ))


class Front(Endpoints):
    """The endpoints in a process of their own, in front of a ComfyUI that stays up while they come and go.

    worker: address of the ComfyUI, if the settings name none. A context manager: it runs inside the block.
    """

    def __init__(
        self, base: Path, worker: str, settings: Mapping[str, Any] | None = None, tables: str = ""
    ) -> None:
        super().__init__(base)
        self.worker, self.port = worker, free_port()
        self._process: subprocess.Popen[bytes] | None = None
        defaults = {"enabled": True, "allowed_hosts": ["127.0.0.1"], "max_pixels": 64 * 64}
        write_settings(base, defaults | dict(settings or {}), tables)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def database(self) -> Path:
        return self.base / "fast-animatediff-endpoints.sqlite3"

    @property
    def log(self) -> str:
        return (self.base / "front.log").read_text(encoding="utf-8")

    def start(self) -> Front:
        program = Path(__file__).with_name("front_process.py")
        command = [sys.executable, "-I", program, self.base, str(self.port), self.worker]
        with (self.base / "front.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while True:
            try:
                self.http.get(f"{self.address}/fal/openapi.json")
                return self
            except httpx.TransportError:
                assert self._process.poll() is None and time.monotonic() < deadline, self.log
                time.sleep(0.05)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.communicate()

    def __enter__(self) -> Front:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.http.close()


def write_settings(folder: Path, values: Mapping[str, Any], tables: str = "") -> None:
    folder.mkdir(exist_ok=True)
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in values.items()]
    (folder / "fast-animatediff-endpoints.toml").write_text("".join(lines) + tables)


def workflows_at_source_size(folder: Path) -> str:
    """The settings' table by which a clip gets the size of its video: as they ship, the workflows render 512x512."""
    table = "[workflows]\n"
    for name in ("video-to-video", "turbo-video-to-video"):
        workflow = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        [load] = [node for node in workflow.values() if node["class_type"] == "FAD_LoadVideoFrames"]
        load["inputs"]["size"] = "source"
        (folder / f"{name}.json").write_text(json.dumps(workflow), encoding="utf-8")
        table += f"{json.dumps(APP + '/' + name.replace('turbo-', 'turbo/'))} = {json.dumps(str(folder / f'{name}.json'))}\n"
    return table


def last_json(command: list[str], env: Mapping[str, str]) -> dict[str, Any]:
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def new_id() -> str:
    return str(uuid.uuid4())
