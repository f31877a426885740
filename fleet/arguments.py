"""The arguments of `dev.py render` and `dev.py fleet`; their help needs nothing but the standard library.

`python bootstrap/run_in_pack.py fleet.arguments render|fleet --help` shows it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

FLEET_NAME = "fast-animatediff"
WARM_ENDPOINT = "fal-ai/fast-animatediff/turbo/text-to-video"
RENDER = """Renders a list of requests, or a folder of videos, into a folder: `python3 dev.py render requests.jsonl --out DIR`.

Run again, it goes on where it was: what is done is skipped, what has changed is rendered anew, what failed is tried
again. Exit status: 0 when every clip is there, 1 when some failed, 2 when nothing was begun.
"""
FLEET = """The endpoints in front of a Ray cluster: `python3 dev.py fleet up|status|down --ray ADDRESS`.

up     serves the endpoints until Ctrl-C, with a worker on each GPU; the workers stay for the next `up`, or for `render`
status shows the workers
down   ends the workers, each after the request that it has; then `up` ends, too
"""


def render_arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dev.py render", description=RENDER)
    what = parser.add_argument_group("what (one of the three)")
    what.add_argument(
        "manifest", nargs="?", type=Path, help='JSON lines: {"endpoint": ..., "input": {...}, "name": ...}'
    )
    what.add_argument(
        "--videos", type=Path, metavar="FOLDER", help="each video in it, with --endpoint and --prompt"
    )
    what.add_argument("--one", type=Path, metavar="FILE", help="one request, into the file --out")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="of the results; a file with --one"
    )
    parser.add_argument("--endpoint", help="of --videos")
    parser.add_argument("--prompt", help="of --videos")
    parser.add_argument(
        "--input", type=json.loads, default={}, metavar="JSON", help="more of the input of --videos"
    )
    parser.add_argument(
        "--attempts", type=int, default=3, help="requests made for one clip, over all runs; default: 3"
    )
    parser.add_argument(
        "--settings", type=Path, metavar="FOLDER", help="with an endpoints' settings file, for workflows"
    )
    parser.add_argument("--json", action="store_true", help="JSON lines instead of text")
    add_ray_options(parser, required=False)
    return parser


def fleet_arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dev.py fleet", description=FLEET, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="serve the endpoints with the workers of a cluster")
    add_ray_options(up, required=True)
    up.add_argument(
        "--folder", type=Path, default=Path("fleet"), help="of the requests and results, and of the settings"
    )
    up.add_argument("--host", default="127.0.0.1", help="to listen on; default: 127.0.0.1. Others need keys")
    up.add_argument("--port", type=int, default=8190)
    up.add_argument(
        "--warm",
        action="append",
        metavar="ENDPOINT",
        help=f"made ready in advance; may be given several times; default: {WARM_ENDPOINT}",
    )
    status = commands.add_parser("status", help="show the workers")
    add_cluster_options(status, required=True)
    status.add_argument("--json", action="store_true")
    down = commands.add_parser("down", help="end the workers, each after its request")
    add_cluster_options(down, required=True)
    down.add_argument(
        "--worker", action="append", metavar="NAME", help="only this one; may be given several times"
    )
    down.add_argument(
        "--now", action="store_true", help="without waiting for their requests, which others then get"
    )
    return parser


def add_cluster_options(parser: argparse._ActionsContainer, required: bool) -> None:
    parser.add_argument(
        "--ray", metavar="ADDRESS", required=required, help="a Ray cluster, such as 10.0.0.1:6379"
    )
    parser.add_argument("--fleet", metavar="NAME", default=FLEET_NAME, help="for more than one in a cluster")


def add_ray_options(parser: argparse.ArgumentParser, required: bool) -> None:
    group = parser.add_argument_group("workers")
    add_cluster_options(group, required)
    group.add_argument(
        "--workers", metavar="N|auto", default="auto", help="how many; auto: as the requests need"
    )
    group.add_argument("--least", type=int, default=1, help="of auto; default: 1")
    group.add_argument("--most", type=int, help="of auto; default: as many as there is room for")
    group.add_argument(
        "--per-node", type=int, metavar="N", help="N workers on each node instead of one on each GPU"
    )
    group.add_argument(
        "--comfyui",
        metavar="PATH",
        help="ComfyUI's folder, the same on every machine; for render without --ray also addresses of running ones",
    )
    group.add_argument(
        "--python", metavar="PATH", help="its Python; default: of a .venv or venv in its folder"
    )
    group.add_argument(
        "--shared", metavar="PATH", help="folder of its models and custom_nodes; default: its own"
    )
    group.add_argument("--options", default="", help="more of its arguments, in quotes")
    group.add_argument(
        "--hang-seconds", type=float, default=60.0, help="without an answer; then it is started again"
    )


if __name__ == "__main__":
    {"render": render_arguments, "fleet": fleet_arguments}[sys.argv[1]]().parse_args(sys.argv[2:])
