"""Puts the real host on the path and loads this checkout the way the host does, under the alias `fast_animatediff`."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import os
import signal
import sys
from pathlib import Path
from types import ModuleType

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; servers that tests start inherit it

ROOT = Path(__file__).resolve().parents[1]
# Fixtures that start a ComfyUI of their own, the one that is used longest first.
SERVERS = ("served", "comfy", "comfy_server", "sleeper")
# With `-n` this process only deals out the tests: its workers import the host.
DEALS_OUT = {"-n", "tests"} <= set(sys.argv) and "PYTEST_XDIST_WORKER" not in os.environ
COMFYUI = Path(os.environ.get("COMFYUI_PATH") or ROOT / ".dev" / "ComfyUI")


def take_ctrl_c() -> None:
    """A shell's background jobs start with Ctrl-C ignored and pass that on to the programs that the tests interrupt."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def use_host() -> None:
    """Makes the host importable; chooses the processor before `comfy.model_management` is first imported."""
    if not (COMFYUI / "comfy").is_dir():
        raise RuntimeError(
            f"ComfyUI was not found in {COMFYUI}. Run `python3 dev.py test`, or set COMFYUI_PATH."
        )
    sys.path.insert(0, str(COMFYUI))
    import comfy_aimdo.control

    comfy_aimdo.control.init()  # before the host is imported, as its main.py does
    import torch

    from comfy.cli_args import args

    args.cpu = not torch.cuda.is_available()
    if args.cpu:  # Triton's kernels run in its interpreter; it decides that when it is first imported
        os.environ["TRITON_INTERPRET"] = "1"
    import nodes  # noqa: F401  # the host's own `nodes`, before anything can shadow it


def load_pack() -> None:
    """Loads the checkout like the host does, by path, but under a name that tests can import from."""
    spec = importlib.util.spec_from_file_location(
        "fast_animatediff", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["fast_animatediff"] = module
    spec.loader.exec_module(module)
    asyncio.run(start_extension(module))


async def start_extension(module: ModuleType) -> None:
    extension = await module.comfy_entrypoint()
    await extension.on_load()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write golden files anew instead of comparing"
    )


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share what takes long to make, and those of one file, are run by one worker. Those with a server begin
    first, and those that end one which others use come after these."""

    def uses(item: pytest.Item, *fixtures: str) -> list[str]:
        return [name for name in fixtures if name in getattr(item, "fixturenames", ())]

    for item in items:
        shared = [*uses(item, *SERVERS, "trained"), item.path.stem]
        item.add_marker(pytest.mark.xdist_group(shared[0]))
    items.sort(key=lambda item: (not uses(item, *SERVERS), bool(uses(item, "doomed"))))


def pytest_collection_finish() -> None:
    """Spares the garbage collector, which runs at each unloading of models too, the modules and tests that stay."""
    gc.freeze()


take_ctrl_c()
if not DEALS_OUT:
    gc.disable()  # while the heap only grows
    use_host()
    load_pack()
    gc.enable()
    gc.freeze()
    pytest_plugins = ["fast_animatediff.tests.comfy_server"]  # the fixture `comfy_server`
