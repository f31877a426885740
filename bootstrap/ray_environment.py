"""The environment that has Ray, apart from ComfyUI's; and Ray's own command in it, with token authentication on."""

from __future__ import annotations

import os
from pathlib import Path

from .programs import DEV, PYTHON, WINDOWS, installing, run, run_quietly

# Every machine of a cluster has to have the same Ray, and the same Python.
RAY_PACKAGES = ["ray==2.60.*", "openjd-cli>=0.8,<0.9"]
RAY_VENV = DEV / "fleet-venv"
RAY_SCRIPTS = RAY_VENV / ("Scripts" if WINDOWS else "bin")
RAY_PYTHON = RAY_SCRIPTS / ("python.exe" if WINDOWS else "python")


def make_ray_venv() -> None:
    with installing():
        if not RAY_PYTHON.exists():
            run_quietly("environment for Ray", [PYTHON, "-m", "venv", "--without-pip", RAY_VENV])


def run_ray(arguments: list[str], env: dict[str, str]) -> int:
    """`ray ...` with the token that the fleet's workers are asked for; `start` makes one if there is none."""
    env = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", **env}
    ray = RAY_SCRIPTS / ("ray.exe" if WINDOWS else "ray")
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    needed = arguments[:1] == ["start"] and env["RAY_AUTH_MODE"] == "token" and "RAY_AUTH_TOKEN" not in env
    if needed and not token.exists():
        run_quietly("token", [ray, "get-auth-token", "--generate"], env)
        print(f"Made {token}: every machine of the cluster needs this file, and nobody else may have it")
    return run([ray, *arguments], env)
