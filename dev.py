"""Sets up what this checkout needs and runs it: `python3 dev.py demo`, `ui`, `serve`, `render`, `fleet`, `test`, `types`, `models`, `bench`.

Standard library only. Everything lands in `.venv/` and `.dev/` of the checkout; whatever is done outside is printed.
`COMFYUI_PATH` names a ComfyUI of your own to use instead of the one that is downloaded.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import os
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bootstrap.browser_tools import browser_environment
from bootstrap.checks import check_types, lint
from bootstrap.convert_workflow import convert_workflow
from bootstrap.help import USAGE, asks_for_help, show_help
from bootstrap.host import BASE, find_host, link_into, link_into_base
from bootstrap.packages import (
    ANY_TORCH,
    CERTIFICATES,
    CONVERTER,
    FRONT,
    TEST_TOOLS,
    TESTED_TORCH,
    TORCH_WORKS,
)
from bootstrap.programs import (
    DEV,
    DISK_GB,
    ISOLATED,
    PYTHON,
    ROOT,
    VENV,
    SetupError,
    installing,
    pip,
    probe,
    run,
    run_quietly,
)
from bootstrap.ray_environment import RAY_PACKAGES, RAY_PYTHON, make_ray_venv, run_ray

VENV_ADVICE = (
    "On Debian and Ubuntu: apt-get install python3-venv. Elsewhere: Python from python.org. Then run again."
)


# ---- setting up


def setup(tests: bool = False) -> dict[str, str]:
    """.venv, host, packages and links. Returns the environment for the programs that use them."""
    if not (VENV / "stamps" / "torch").is_file():
        free = shutil.disk_usage(ROOT).free / 1e9
        if free < DISK_GB:
            raise SetupError(f"The disk of {ROOT} has {free:.1f} GB free; about {DISK_GB} GB are needed.")
        print(f"Setting up .venv and .dev: about {DISK_GB} GB and some minutes, once")
    DEV.mkdir(exist_ok=True)
    own = os.environ.get("COMFYUI_PATH")
    python, host = make_venv(), find_host(own)
    install("torch", ANY_TORCH if own else TESTED_TORCH, python)
    install("ComfyUI requirements", [], python, host / "requirements.txt")
    if tests:  # with the host's requirements beside them, so that no tool can move what the host needs
        install("test tools", TEST_TOOLS, python, host / "requirements.txt")
        install("workflow converter", CONVERTER, python)
    link_into_base()
    if own:
        (host / "custom_nodes").mkdir(exist_ok=True)
        print(link_into(host / "custom_nodes", ROOT))
    return child_environment(COMFYUI_PATH=str(host), FAD_DEV_BASE=str(BASE))


def make_venv() -> str:
    """Makes .venv with the running Python, unless a working one is there; returns its version, such as `3.11`."""
    describe = "import sys, pip; print('%d.%d' % sys.version_info[:2])"
    with installing():
        version = probe(describe) or remake_venv(describe)
    if version is None:
        raise SetupError(f".venv was made, but its Python or its pip does not start. {VENV_ADVICE}")
    return version


def remake_venv(describe: str) -> str | None:
    """Makes .venv anew; returns what some code prints there."""
    command = [sys.executable, "-m", "venv", "--clear", VENV]
    if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
        run_quietly(".venv", command)
    elif importlib.util.find_spec("venv") and importlib.util.find_spec("pip"):  # Debian without python3-venv
        run_quietly(".venv", [*command, "--without-pip"])
        pip("pip", ["--python", PYTHON, "install", "pip"], python=[sys.executable, "-m"])
    else:
        raise SetupError(f"This Python ({sys.executable}) can't make a virtual environment. {VENV_ADVICE}")
    return probe(describe)


def install(
    title: str, packages: list[str], python: str, reads: Path | None = None, into: Path | None = None
) -> None:
    """One pip call for a group of packages, none if the same was asked for last time. reads: a requirements file. into: the
    Python of another environment than .venv."""
    stamp = (into.parents[1] if into else VENV) / "stamps" / title.replace(" ", "-")
    key = fingerprint(python, *packages, reads.read_text(encoding="utf-8") if reads else "")
    with installing():
        if stamp.is_file() and stamp.read_text() == key:
            return
        kept = probe(TORCH_WORKS) if title == "torch" else None
        if kept:
            print(f"  torch: {kept} is in .venv already and is kept")
        else:
            place: list[str | Path] = [] if into is None else ["--python", into]
            pip(title, [*place, "install", *packages, *(["-r", reads] if reads else [])])
        stamp.parent.mkdir(exist_ok=True)
        stamp.write_text(key)


def fingerprint(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def child_environment(**more: str) -> dict[str, str]:
    """Without PYTHONPATH: with the checkout on it, our `nodes/` would hide the host's module of that name."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1", **more}
    env.pop("PYTHONPATH", None)
    return env


# ---- commands


def demo(arguments: list[str]) -> int:
    return run_module("dev_server.demo", arguments, setup())


def ui(arguments: list[str]) -> int:
    return run_module("dev_server.ui", arguments, setup())


def serve(arguments: list[str]) -> int:
    if any(argument.startswith("--workers") for argument in arguments):  # ComfyUI and torch are elsewhere
        DEV.mkdir(exist_ok=True)
        install("endpoints", FRONT, make_venv())
        return run_module("dev_server.front", arguments, child_environment())
    env = setup()
    install("certificates", [CERTIFICATES], make_venv())
    return run_module("dev_server.serve", arguments, env)


def render(arguments: list[str]) -> int:
    env = render_environment(arguments)
    if "--ray" in arguments:
        env.update(fleet_environment())
    return run_module("fleet.render", arguments, env)


def fleet(arguments: list[str]) -> int:
    if arguments[:1] == ["ray"]:
        DEV.mkdir(exist_ok=True)
        make_venv()
        return run_ray(arguments[1:], child_environment(**fleet_environment()))
    return run_module("fleet.command", arguments, {**render_environment(arguments), **fleet_environment()})


def render_environment(arguments: list[str]) -> dict[str, str]:
    """With a ComfyUI that the arguments name, the packages of a front; else all that `setup` makes, and tiny models."""
    own = {"FAD_OWN_COMFYUI": "1"} if os.environ.get("COMFYUI_PATH") else {}
    if "--comfyui" in arguments or {"status", "down", "--help"} & set(arguments):
        DEV.mkdir(exist_ok=True)
        install("endpoints", FRONT, make_venv())
        return child_environment(**own)
    env = setup() | own
    if not own and run_module("dev_server.set_up", [], env):
        raise SetupError("The tiny models could not be made.")
    return env


def fleet_environment() -> dict[str, str]:
    """The environment that has Ray, made on first use; returns the variable that names its Python."""
    make_ray_venv()
    install("Ray", RAY_PACKAGES, str(RAY_PYTHON), into=RAY_PYTHON)
    return {"FAD_RAY_PYTHON": str(RAY_PYTHON)}


def test(arguments: list[str]) -> int:
    env = setup(tests=True)
    env.update(browser_environment())
    # Two threads of torch in each of several processes make the same tests take eight times as long on two cores.
    env.setdefault("OMP_NUM_THREADS", "1")
    pytest = [*ISOLATED, "pytest", "-c", "tests/pytest.ini"]
    if arguments not in ([], ["--all"]):
        named = any(Path(argument.split("::")[0]).exists() for argument in arguments)
        return run([*pytest, *([] if named else ["tests"]), *arguments], env)
    if lint(env, "check") or lint(env, "format", "--check"):
        print("The tests were not run: mend this first.")
        return 1
    chosen = [] if arguments else ["-m", "not slow"]
    # Three on two cores, as a third of the time tests wait for a server; in the order of collection: long groups first.
    workers = ["-n", "3", "--dist", "loadgroup", "--no-loadscope-reorder"]
    with ThreadPoolExecutor(1) as beside:  # in the time in which tests wait for a server
        types = beside.submit(check_types, env)
        failed = run([*pytest, "tests", *workers, *chosen, "--durations", "5"], env)
    if types.result():
        print("The types are wrong: mypy's lines stand above, and `python3 dev.py types` shows them alone.")
    return failed or types.result()


def types(arguments: list[str]) -> int:
    return check_types(setup(tests=True))


def models(arguments: list[str]) -> int:
    """Needs huggingface_hub only: who just fetches weights should not have to install torch."""
    DEV.mkdir(exist_ok=True)
    install("huggingface hub", ["huggingface_hub"], make_venv())
    return run_script("bootstrap/download_models.py", arguments, child_environment())


def bench(arguments: list[str]) -> int:
    names = [path.stem for path in sorted((ROOT / "benchmarks").glob("[!_]*.py"))]
    usual = "pack" if "--pack" in arguments else "run"
    name, *rest = arguments if arguments and arguments[0][0] != "-" else [usual, *arguments]
    if name not in names:
        print(
            f"usage: python3 dev.py bench NAME [arguments], with NAME one of: {', '.join(names) or '(none yet)'}"
        )
        return 2
    env = setup()
    return run_script(f"benchmarks/{name}.py", rest, env | (fleet_environment() if name == "fleet" else {}))


COMMANDS = {
    "demo": demo,
    "ui": ui,
    "serve": serve,
    "render": render,
    "fleet": fleet,
    "test": test,
    "types": types,
    "convert": convert_workflow,
    "models": models,
    "bench": bench,
}


def run_script(script: str, arguments: list[str], env: dict[str, str]) -> int:
    """By file path, never `-m`: that would put the checkout's root on the path, and our `nodes/` over the host's."""
    if not (ROOT / script).is_file():
        raise SetupError(f"{script} is not in this checkout.")
    return run([PYTHON, ROOT / script, *arguments], env)


def run_module(module: str, arguments: list[str], env: dict[str, str]) -> int:
    return run_script("bootstrap/run_in_pack.py", [module, *arguments], env)


def terminate(number: int, frame: object) -> None:
    raise KeyboardInterrupt("terminated")  # like Ctrl-C, except that nobody told the child


def main(arguments: list[str]) -> int:
    sys.stdout.reconfigure(line_buffering=True, errors="replace")
    if not arguments or arguments[0] not in COMMANDS:
        if arguments and not arguments[0].startswith("-"):
            near = difflib.get_close_matches(arguments[0], COMMANDS, 1)
            meant = f" Did you mean {near[0]}?" if near else ""
            print(f"{arguments[0]} is not a command.{meant}", file=sys.stderr)
        print(USAGE)
        return 0 if arguments in (["-h"], ["--help"]) else 2
    signal.signal(signal.SIGTERM, terminate)
    try:
        if sys.version_info < (3, 10):  # noqa: UP036
            raise SetupError(
                f"Python 3.10 or newer is needed; this is {sys.version.split()[0]} ({sys.executable})."
            )
        if asks_for_help(arguments):
            return show_help(*arguments)
        return COMMANDS[arguments[0]](arguments[1:])
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
