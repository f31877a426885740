from __future__ import annotations

import os
import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from fast_animatediff.fleet.driver import place, plan
from fast_animatediff.fleet.ledger import FILE_NAME, Clip, Ledger, LedgerInUse
from fast_animatediff.fleet.manifest import Item
from fast_animatediff.fleet.worker import PREFIX, remove_leftovers
from fast_animatediff.fleet.workers import Demand, Size

CLIP = Clip("one", "digest", "done", "one.mp4", "id", 1, 2.5, "node")
ITEM = Item("one", "endpoint", {})


def test_what_was_stored_is_there_after_the_file_is_closed(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.put(replace(CLIP, state="waiting"))
        ledger.put(CLIP)
    with Ledger(tmp_path) as ledger:
        assert ledger.clips() == {"one": CLIP}


def test_a_second_ledger_of_a_folder_is_refused_while_the_first_is_open(tmp_path: Path) -> None:
    with Ledger(tmp_path):
        with pytest.raises(LedgerInUse):
            Ledger(tmp_path)
    with Ledger(tmp_path):
        pass


def test_a_ledger_of_another_program_or_version_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("not a database" * 100)
    with pytest.raises(ValueError, match=FILE_NAME):
        Ledger(tmp_path)
    (tmp_path / FILE_NAME).unlink()
    with sqlite3.connect(tmp_path / FILE_NAME) as other:
        other.execute("PRAGMA user_version = 9")
    with pytest.raises(ValueError, match="is of version 9"):
        Ledger(tmp_path)


def test_a_ledger_that_is_damaged_anywhere_is_named_with_what_to_do(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        for number in range(100):
            ledger.put(replace(CLIP, name=str(number)))
    file = tmp_path / FILE_NAME
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:4096] + bytes(4096) + whole[8192:]):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{FILE_NAME}: .*rename it"):
            Ledger(tmp_path)
    file.unlink()
    with sqlite3.connect(file) as other:
        other.execute("CREATE TABLE clips (name)")
    with pytest.raises(ValueError, match=f"{FILE_NAME}: .*rename it"):
        Ledger(tmp_path)


def test_a_damaged_row_is_rendered_anew_and_the_others_stay(tmp_path: Path) -> None:
    damage = ("state = 'bogus'", "attempts = 'x'", "digest = x'ff'", "seconds = 'long'")
    with Ledger(tmp_path) as ledger:
        for name in ("one", *map(str, range(len(damage)))):
            ledger.put(replace(CLIP, name=name))
    with sqlite3.connect(tmp_path / FILE_NAME) as other:
        for number, change in enumerate(damage):
            other.execute(f"UPDATE clips SET {change} WHERE name = ?", [str(number)])
    with Ledger(tmp_path) as ledger:
        assert ledger.clips() == {"one": CLIP}


def test_only_a_clip_of_the_same_digest_whose_file_is_there_is_skipped(tmp_path: Path) -> None:
    [work], there = plan([ITEM], ["digest"], {"one": CLIP}, tmp_path)
    assert not there and work.clip.attempts == 0
    (tmp_path / "one.mp4").write_bytes(b"")
    assert plan([ITEM], ["digest"], {"one": CLIP}, tmp_path) == ([], [CLIP])
    [work], there = plan([ITEM], ["other"], {"one": CLIP}, tmp_path)
    assert not there and work.clip == Clip("one", "other", "failed")
    failed = replace(CLIP, state="failed", attempts=2)
    [work], _ = plan([ITEM], ["digest"], {"one": failed}, tmp_path)
    assert work.clip == failed


def test_a_file_that_has_both_names_already_keeps_only_the_new_one(tmp_path: Path) -> None:
    """A driver that was killed between giving a clip its name and noting it does it again."""
    source, target = tmp_path / "source.mp4", tmp_path / "clip.mp4"
    source.write_bytes(b"frames")
    place(source, target)
    place(source, target)
    assert target.read_bytes() == b"frames"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["clip.mp4", "source.mp4"]


def test_workers_come_at_once_with_the_requests_and_go_when_there_was_less_to_do_for_a_while() -> None:
    def wanted(demand: Demand, requests: int, now: float) -> int:
        demand.note(requests, now)
        return demand.wanted(room=8)

    demand = Demand(Size(1, None), seconds=60)
    assert wanted(demand, 0, 0.0) == 1
    assert wanted(demand, 5, 1.0) == 5
    assert wanted(demand, 50, 2.0) == 8
    assert wanted(demand, 2, 30.0) == 8
    assert wanted(demand, 2, 63.0) == 2
    assert wanted(demand, 0, 130.0) == 1
    assert wanted(Demand(Size(0, 3)), 50, 0.0) == 3
    assert wanted(Demand(Size(4, 4)), 0, 0.0) == 4


def test_folders_of_workers_that_are_gone_are_deleted_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kept = [f"{PREFIX}notes", f"{PREFIX}{os.getpid()}-x"]
    for name in (*kept, f"{PREFIX}{2**30}-x"):
        (tmp_path / name).mkdir()
    remove_leftovers()
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(kept)
