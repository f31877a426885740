"""Real Ray on this machine: a head and more nodes, each with a ComfyUI."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from fast_animatediff.benchmarks.cluster.faults import (
    Scene,
    comfyui_killed,
    front_killed,
    serial_run,
    survive,
    worker_killed,
)
from fast_animatediff.benchmarks.cluster.local_ray import LocalRay, read_bytes
from fast_animatediff.benchmarks.cluster.sleeper import (
    TURBO,
    line,
    run,
    write_workflows,
)
from fast_animatediff.benchmarks.cluster.up import Up, wait_until
from fast_animatediff.dev_server.certificate import make_certificate
from fast_animatediff.fleet.worker import free_port

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(sys.platform != "linux", reason="Ray joins several nodes on Linux only"),
]


@pytest.fixture
def ray(ray_bin: Path, tmp_path: Path) -> Iterator[LocalRay]:
    """A head; what comes of it is gone at the end."""
    with LocalRay(tmp_path, ray_bin) as cluster:
        yield cluster
    assert cluster.processes() == []


@pytest.fixture
def up(ray: LocalRay, sleeper_base: Path, tmp_path: Path) -> Iterator[Up]:
    """With two workers, as soon as there are nodes for them, and requests that take two seconds; also by https."""
    tls = make_certificate(tmp_path / "certificate")
    secure = f"127.0.0.1:{free_port()}"
    files = {"tls_certfile": str(tls.certificate), "tls_keyfile": str(tls.key)}
    folder = write_workflows(tmp_path / "up", 1.0, listen=secure, **files)
    up = Up(ray, sleeper_base, folder, "--workers", "2", "--per-node", "1")
    up.env |= {
        "FAL_RUN_HOST": f"{secure.replace('127.0.0.1', 'localhost')}/fal/run",
        "FAL_QUEUE_RUN_HOST": f"{secure.replace('127.0.0.1', 'localhost')}/fal/queue",
        "SSL_CERT_FILE": str(tls.authority),
        "FAL_KEY": "any",
    }
    yield up.start()
    up.kill()


CLIENT = f"""
import fal_client, json
body = {line()["input"]!r}
handles = [fal_client.submit({TURBO!r}, arguments=body | {{"seed": seed}}) for seed in range(4)]
subscribed = fal_client.subscribe({TURBO!r}, arguments=body | {{"seed": 4}}, with_logs=True)
print(json.dumps([each.get()["video"]["file_size"] for each in handles] + [subscribed["video"]["file_size"]]))
"""


@pytest.mark.slow
def test_the_services_client_is_served_by_workers_that_come_with_their_nodes_and_leave_after_their_request(
    up: Up, ray: LocalRay
) -> None:
    up.until_ready(1)
    began = time.monotonic()
    ray.start_node()
    wait_until(lambda: len(up.workers()) == 2, lambda: up.log)
    assert time.monotonic() - began < 60
    up.until_ready(2)
    client = subprocess.run([sys.executable, "-I", "-c", CLIENT], env=up.env, capture_output=True, text=True)
    assert client.returncode == 0, client.stderr
    assert len(json.loads(client.stdout)) == 5
    # The front tells each worker now and then what its lane has done.
    wait_until(lambda: all(worker["lane"].get("done") for worker in up.workers()), lambda: up.log)
    assert foreign_connections(ray) == set()
    stranger = run("command", "status", "--ray", ray.address, env=up.env | {"RAY_AUTH_TOKEN": "0" * 64})
    assert stranger.returncode == 1
    running = up.submit(20, num_inference_steps=12)
    wait_until(lambda: up.status(running) == "IN_PROGRESS", lambda: up.log)
    shown: list[str] = []

    def is_shown() -> bool:  # as soon as the front has told it
        shown[:] = up.fleet("status").splitlines()
        return any("working" in row and running[:8] in row for row in shown)

    wait_until(is_shown, lambda: "\n".join(shown), seconds=60)
    assert shown[0].split() == ["worker", "node", "GPU", "state", "request", "done", "failed", "up"]
    assert up.fleet("down").endswith("2 workers have ended.\n")
    assert up.process.wait(60) == 0
    ended = next(said for said in up.log.splitlines() if f"ended request_id={running}" in said)
    assert "outcome=completed" in ended and "attempt=1" in ended
    assert [pid for pid in ray.processes() if b"--base-directory" in read_bytes(pid, "cmdline")] == []


def foreign_connections(ray: LocalRay) -> set[str]:
    """Addresses of other machines that any process of the cluster, its workers or its front is connected to."""
    own = {each.address for addresses in psutil.net_if_addrs().values() for each in addresses}
    found = set()
    for pid in ray.processes():
        with suppress(psutil.Error):
            found |= {each.raddr.ip for each in psutil.Process(pid).net_connections("inet") if each.raddr}
    assert found  # those to this machine were seen
    return {address for address in found if address.removeprefix("::ffff:") not in own}


@pytest.mark.slow
def test_every_request_ends_once_with_its_frames_whatever_is_killed_and_one_worker_has_each_gpu(
    ray_bin: Path, sleeper_base: Path, tmp_path: Path
) -> None:
    """The other faults: `python3 dev.py bench fleet faults`."""
    settings = write_workflows(tmp_path / "up", 0.25, answer_seconds=10)
    with LocalRay(tmp_path, ray_bin, gpus=1) as ray:
        ray.start_node()
        up = Up(ray, sleeper_base, settings, "--workers", "2").start()
        try:
            up.until_ready(2)
            assert sorted(worker["name"] for worker in up.workers()) == ["gpu-1", "gpu-2"]
            expected = serial_run(up, range(8))
            for fault in (front_killed, comfyui_killed, worker_killed):
                survive(Scene(ray, up), fault, expected)
        finally:
            up.kill()
