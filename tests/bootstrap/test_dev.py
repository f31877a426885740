"""The bootstrap's decisions, without a network: dev.py is loaded by path, so that its folder stays off sys.path."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from loaded import ROOT, browser_tools, dev, host, programs


def make_comfyui(folder: Path, version: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "comfyui_version.py").write_text(f'# made by the build\n__version__ = "{version}"\n')
    (folder / "main.py").touch()
    return folder


def make_archive(path: Path, members: list[tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def member(name: str, size: int = 1, kind: bytes = tarfile.REGTYPE, linkname: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = (size if kind == tarfile.REGTYPE else 0), kind, linkname
    return info


# ---- the host


def test_a_comfyui_of_the_users_own_is_used_from_0_30_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in ("0.30.0", "0.31.2", "1.0.0"):
        folder = make_comfyui(tmp_path / version, version)
        assert host.find_host(str(folder)) == folder
        assert f"ComfyUI {version} in {folder} (COMFYUI_PATH)" in capsys.readouterr().out


def test_an_older_comfyui_is_refused_with_both_versions(tmp_path: Path) -> None:
    folder = make_comfyui(tmp_path / "old", "0.9.31")
    with pytest.raises(programs.SetupError, match=r"is 0\.9\.31; 0\.30\.0 or newer"):
        host.find_host(str(folder))


def test_a_folder_without_comfyui_is_refused_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(programs.SetupError, match="no ComfyUI in .*COMFYUI_PATH must name"):
        host.find_host(str(tmp_path))


def test_only_the_host_is_unpacked_from_the_archive(tmp_path: Path) -> None:
    wanted = [member("a-1/vendor/ComfyUI/main.py", 7), member("a-1/vendor/ComfyUI/comfy/sd.py")]
    archive = make_archive(
        tmp_path / "a.tar.gz", [member("a-1/README.md"), *wanted, member("a-1/vendor/ComfyUI2/x")]
    )
    host.unpack(archive, "a-1/vendor/ComfyUI/", tmp_path / "out")
    unpacked = {
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    assert unpacked == {"main.py", os.path.join("comfy", "sd.py")}
    assert (tmp_path / "out" / "main.py").read_bytes() == b"x" * 7


@pytest.mark.parametrize(
    "bad",
    [
        member("a/../escaped"),
        member("a//escaped"),
        member("a/link", kind=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("a/hard", kind=tarfile.LNKTYPE, linkname="../escaped"),
        member("a/pipe", kind=tarfile.FIFOTYPE),
    ],
    ids=["up", "absolute", "symlink", "hardlink", "pipe"],
)
def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    archive = make_archive(tmp_path / "a.tar.gz", [bad])
    with pytest.raises(programs.SetupError, match="no place there"):
        host.unpack(archive, "a/", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar.gz", "out"}
    assert list((tmp_path / "out").iterdir()) == []


# ---- links


def test_the_checkout_is_linked_into_a_users_custom_nodes_once(tmp_path: Path) -> None:
    checkout, custom_nodes = tmp_path / "checkout", tmp_path / "custom_nodes"
    checkout.mkdir(), custom_nodes.mkdir()
    assert "linked" in host.link_into(custom_nodes, checkout)
    assert (custom_nodes / "fast-animatediff").resolve() == checkout
    assert "already" in host.link_into(custom_nodes, checkout)


def test_a_checkout_that_lives_in_custom_nodes_is_not_linked(tmp_path: Path) -> None:
    checkout = tmp_path / "custom_nodes" / "my-clone"
    checkout.mkdir(parents=True)
    assert "already" in host.link_into(tmp_path / "custom_nodes", checkout)
    assert os.listdir(tmp_path / "custom_nodes") == ["my-clone"]


def test_something_else_of_that_name_is_left_alone(tmp_path: Path) -> None:
    taken = tmp_path / "custom_nodes" / "fast-animatediff"
    taken.mkdir(parents=True)
    (taken / "theirs.py").touch()
    assert "left alone" in host.link_into(tmp_path / "custom_nodes", tmp_path)
    assert os.listdir(taken) == ["theirs.py"]


def test_the_dev_servers_links_follow_a_checkout_that_was_moved(in_tmp: Path) -> None:
    nodes = in_tmp / ".dev" / "base" / "custom_nodes"
    nodes.mkdir(parents=True)
    (in_tmp / "tiny" / "extension").mkdir(parents=True)
    (in_tmp / "before").mkdir()
    host.link(nodes / "fast-animatediff", in_tmp / "before")
    for _ in range(2):
        host.link_into_base()
        assert (nodes / "fast-animatediff").resolve() == in_tmp
        assert (nodes / "fast-animatediff-tiny").resolve() == in_tmp / "tiny" / "extension"
    assert (in_tmp / "before").is_dir()
    assert sorted(os.listdir(nodes.parent)) == ["custom_nodes", "input", "models", "output", "temp", "user"]


# ---- messages


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "The disk is full",
        ),
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError(...)': /simple/torch/\n"
            "ERROR: No matching distribution found for torch==2.14.1",
            "check the network",
        ),
        ("ERROR: No matching distribution found for torch==2.14.1", "no build of it for this system"),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
            "not the file that was expected",
        ),
        ("npm error code ECONNREFUSED", "check the network"),
        ("something new", "last lines are above"),
    ],
)
def test_a_failed_installation_is_explained(said: str, advice: str) -> None:
    assert advice in programs.diagnose(said.splitlines())


def test_a_failing_program_shows_its_last_lines_and_where_the_rest_is(in_tmp: Path) -> None:
    code = "print('WARNING: Location x is ignored: it is neither a file'); print('the reason'); raise SystemExit(3)"
    with pytest.raises(programs.SetupError) as error:
        programs.run_quietly("some tool", [sys.executable, "-c", code])
    assert "the reason" in str(error.value)
    assert "is ignored" not in str(error.value)
    log = in_tmp / ".dev" / "logs" / "some-tool.log"
    assert str(log.relative_to(in_tmp)) in str(error.value)
    assert "is ignored" in log.read_text()


def test_too_small_a_disk_is_said_before_anything_is_made(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev, "DISK_GB", 10**6)
    with pytest.raises(programs.SetupError, match="GB free; about 1000000 GB are needed"):
        dev.setup()
    assert os.listdir(in_tmp) == []


def test_a_python_that_cannot_make_environments_is_told_how(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev.importlib.util, "find_spec", lambda name: None if name != "venv" else dev)
    with pytest.raises(programs.SetupError, match="apt-get install python3-venv"):
        dev.make_venv()


def test_under_ci_a_missing_browser_is_an_error_elsewhere_a_loud_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.delenv("CI", raising=False)
    assert browser_tools.browser_environment() == {}
    assert (
        "*** THE BROWSER TESTS WILL BE SKIPPED: chromium and nodejs and npm not found"
        in capsys.readouterr().out
    )
    monkeypatch.setenv("CI", "true")
    with pytest.raises(programs.SetupError, match="The browser tests can't run"):
        browser_tools.browser_environment()


def test_programs_never_get_the_checkout_on_their_python_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert "PYTHONPATH" not in dev.child_environment()
    assert dev.child_environment(COMFYUI_PATH="there")["COMFYUI_PATH"] == "there"


def test_an_unknown_command_shows_what_there_is() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "dev.py"), "dmeo"], capture_output=True, text=True)
    assert done.returncode == 2
    assert all(f"\n  {command} " in done.stdout for command in dev.COMMANDS)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no interrupt for one process")
def test_ctrl_c_ends_the_program_that_runs_and_says_one_line(tmp_path: Path) -> None:
    child = "import sys, time\ntry:\n  print('up', flush=True); time.sleep(60)\nfinally:\n  print('cleaned', flush=True)"
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import dev\n"
        f"dev.COMMANDS['demo'] = lambda arguments: dev.run([sys.executable, '-c', {child!r}], None)\n"
        "sys.exit(dev.main(['demo']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "up\n"
    start = time.monotonic()
    process.send_signal(2)
    out, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "cleaned" in out and error.rstrip().endswith("Stopped.")
    assert time.monotonic() - start < 10
