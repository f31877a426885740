"""Help for each command of dev.py, shown at once: nothing is installed for it."""

from __future__ import annotations

import ast
import os
import re
import sys

from .programs import PYTHON, ROOT, VENV, run
from .which_models import models_arguments

USAGE = """usage: python3 dev.py COMMAND [arguments]

  demo            a real video and a prompt become two mp4 files, through a real ComfyUI server and tiny models
  ui              the ComfyUI page with this pack and the tiny models  [--port PORT]
  serve           the endpoints with the tiny models; prints a call for curl, Python and JavaScript  [--port PORT]
                  or in front of ComfyUIs that run elsewhere: --workers URL[,URL] [--port PORT] [--folder FOLDER]
  render          a list of requests, or a folder of videos, into a folder: requests.jsonl --out DIR; --help says more
  fleet           the endpoints in front of many machines: up, status, down; `fleet ray ...` is Ray's own command
  test            ruff, mypy and the tests, but for those marked slow; test --all: with these. With other arguments
                  only pytest, in one process, for example: test tests/video -k gif
  types           mypy alone
  convert FILE    rewrites a workflow or API prompt made for AnimateDiff-Evolved, VideoHelperSuite and the like to this
                  pack's nodes and core's, says what it could not carry over, and writes it beside the file
  models          shows, then downloads the real weights that the workflows name  [--comfyui PATH] [--yes]
                  --workflow TITLE, --only WORD: some of them
  bench [NAME]    this pack beside its peers: --ade PATH, --help; --gpu: all of it on a card; --pack DIR: for a machine
                  without network; or benchmarks/NAME.py: counted, directed, endpoints, fleet, kernels,
                  less_work, long_clips, video, waiting

COMMAND --help says more. The first call installs into .venv and .dev of this checkout; later calls start at once."""

MORE = {
    "demo": "Takes no arguments. Both videos land in .dev/base/output, and their names are printed.",
    "ui": "--port PORT     default: 8188, or a free one if that is taken. Files: .dev/base. Ctrl-C stops it.",
    "serve": """--port PORT     default: 8188, or a free one if that is taken; with --workers 8189
--workers URLS  addresses of ComfyUIs that run elsewhere, separated by commas; nothing but the endpoints runs here
--folder FOLDER of their settings (fast-animatediff-endpoints.toml), requests and results; default: .dev/front""",
    "test": "Other arguments are pytest's: `-k WORD` only tests with that word in their name, `-x` stops at the first failure.",
    "types": "Takes no arguments.",
    "convert": """FILE is a workflow that ComfyUI's page saved, or an API prompt; there may be several. What becomes of FILE.json is
written to "FILE converted.json" beside it; FILE.json itself, and a file of that name, are left alone. Printed are the
nodes that were replaced, what of them is lost, and the nodes that stay because nothing here replaces them.

  python3 dev.py convert my-workflow.json""",
}


def asks_for_help(arguments: list[str]) -> bool:
    """Whether a command was called for its help. `fleet ray` is Ray's own command, which has its own."""
    command, *rest = arguments
    return bool({"-h", "--help"} & set(rest)) and (command, *rest[:1]) != ("fleet", "ray")


def show_help(command: str, *arguments: str) -> int:
    """Prints the help of one command; returns the exit status."""
    if command == "models":
        print(models_arguments().format_help(), end="")
    elif command in ("render", "fleet"):
        module = [str(ROOT / "bootstrap" / "run_in_pack.py"), "fleet.arguments", command]
        return run([sys.executable, *module, *arguments], dict(os.environ))
    elif command == "bench":
        return show_benchmark(*arguments)
    else:
        print(f"{usage_of(command)}\n\n{MORE[command]}")
    return 0


def usage_of(command: str) -> str:
    """The lines of USAGE on a command."""
    found = re.search(rf"^  {command} .*\n(?:   .*\n)*", USAGE, re.MULTILINE)
    assert found is not None  # a test asks for the help of every command
    called, _, told = found[0].strip().partition("  ")
    return f"usage: python3 dev.py {called}\n\n" + "\n".join(line.strip() for line in told.splitlines())


def show_benchmark(name: str, *_: str) -> int:
    """A benchmark's options once PyTorch is there, which most of them import; else what stands at its top."""
    script = ROOT / "benchmarks" / f"{'run' if name.startswith('-') else name}.py"
    if (VENV / "stamps" / "torch").is_file() and script.is_file():
        return run([PYTHON, script, "--help"], dict(os.environ))
    print(usage_of("bench"))
    if script.is_file():
        print(f"\n{ast.get_docstring(ast.parse(script.read_text(encoding='utf-8')))}")
    return 0
