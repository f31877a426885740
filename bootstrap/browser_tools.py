"""Chromium, Node.js and its packages for the tests that drive the real page: found, else installed where that can be done."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

from .programs import DEV, LINUX, SetupError, run_quietly

NODE_TOOLS = ["playwright-core@1.65.1", "@fal-ai/client@1.10.1"]


def browser_environment() -> dict[str, str]:
    """CHROMIUM and NODE_PATH for these tests. If they can't be had: a loud line, under CI an error."""
    tools = find_browser_tools()
    if None in tools.values() and LINUX and os.geteuid() == 0 and shutil.which("apt-get"):
        apt_install([package for package, found in tools.items() if not found])
        tools = find_browser_tools()
    missing = [package for package, found in tools.items() if not found]
    if not missing and not install_node_tools(tools["npm"]):
        missing = NODE_TOOLS
    if not missing:
        return {"CHROMIUM": tools["chromium"], "NODE_PATH": str(DEV / "node_modules")}
    advice = f"{' and '.join(missing)} not found. Install it (CHROMIUM can name a browser elsewhere), then run again."
    if os.environ.get("CI") == "true":
        raise SetupError(f"The browser tests can't run: {advice}")
    print(f"\n*** THE BROWSER TESTS WILL BE SKIPPED: {advice} ***\n")
    return {}


def install_node_tools(npm: str) -> bool:
    """Whether the wanted packages are in .dev, after an attempt to put them there: all at once, npm drops the others."""
    if all(map(has_node_tool, NODE_TOOLS)):
        return True
    flags = ["--prefix", DEV, "--no-save", "--no-audit", "--no-fund"]
    try:
        run_quietly(" ".join(NODE_TOOLS), [npm, "install", *flags, *NODE_TOOLS])
    except SetupError as error:
        print(error)
        return False
    return True


def has_node_tool(tool: str) -> bool:
    package, _, version = tool.rpartition("@")
    described = DEV / "node_modules" / package / "package.json"
    return described.is_file() and json.loads(described.read_text(encoding="utf-8"))["version"] == version


def find_browser_tools() -> dict[str, str | None]:
    """Programs by the name of the Debian package that has them."""
    return {"chromium": find_chromium(), "nodejs": shutil.which("node"), "npm": shutil.which("npm")}


def find_chromium() -> str | None:
    """A Chromium or Chrome that starts: CHROMIUM, then the usual names, then the usual places."""
    names = [
        os.environ.get("CHROMIUM", ""),
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
    ]
    places = ["/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"]
    places += [os.path.expandvars(r"%ProgramFiles%\Google\Chrome\Application\chrome.exe")]
    for found in filter(None, map(shutil.which, names + places)):
        # On Ubuntu it may be a stub that only asks for snap. Elsewhere --version may open a window.
        if not LINUX or subprocess.run([found, "--version"], capture_output=True).returncode == 0:
            return found
    return None


def apt_install(packages: list[str]) -> None:
    """A failure is only shown: the caller looks whether the programs are there."""
    print(f"installing {', '.join(packages)} on this system with apt-get, for the browser tests")
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    try:
        run_quietly("apt-get update", ["apt-get", "update"], env)
        run_quietly(
            "apt-get install", ["apt-get", "install", "-y", "--no-install-recommends", *packages], env
        )
    except SetupError as error:
        print(error)
