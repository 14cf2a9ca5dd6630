"""What a power cut can undo: the rename of a record, and that of a blank directory (docs/design.md, section 13)."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from flowherd.host.store import blank_directories
from flowherd.host.store.blank_directories import BlankDirectories
from flowherd.host.store.run_directory import RunDirectory
from flowherd_runner.contract import files, identity
from flowherd_runner.contract.spec import RunSpec

RUN_ID = "0b7c5c0e-1111-4222-8333-444455556666"


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    files.prepare_names(str(tmp_path))
    return RunDirectory(tmp_path, RUN_ID)


def undo_rename(directory: Path, name: str) -> None:
    (directory / name).rename(directory / f".{name}.new")


def test_records_get_their_names_back_except_a_start_of_this_boot_that_was_never_named(directory: RunDirectory) -> None:
    for boot_id, completed in ((identity.boot_id(), ["exit.json"]), ("another", ["started"])):
        files.write_prepared(str(directory.path), files.STARTED_FILE, {"boot_id": boot_id})
        undo_rename(directory.path, files.STARTED_FILE)
        if boot_id != "another":
            files.write_prepared(str(directory.path), files.EXIT_FILE, {"reason": "exited"})
            undo_rename(directory.path, files.EXIT_FILE)
        assert directory.complete_records() == completed
    assert directory.exit_record() == {"reason": "exited", "contract": 1}


@pytest.mark.parametrize("kept", [0, 20])
def test_a_record_that_is_not_whole_counts_as_none(directory: RunDirectory, kept: int) -> None:
    files.write_prepared(str(directory.path), files.EXIT_FILE, {"reason": "exited", "grade": "proven"})
    undo_rename(directory.path, files.EXIT_FILE)
    os.truncate(directory.path / ".exit.json.new", kept)
    os.truncate(directory.path / ".exit.json.new", 4096)  # what was reserved for it
    assert directory.complete_records() == []


def test_a_run_takes_a_blank_and_is_found_under_its_old_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blank_directories, "_REST_S", 0.0)
    (tmp_path / "runs").mkdir()
    blanks = BlankDirectories(tmp_path)
    blanks.refill()
    assert len(list((tmp_path / "blank").iterdir())) == 4
    run = RunDirectory(tmp_path / "runs" / RUN_ID, RUN_ID)
    os.close(run.create(RunSpec(RUN_ID), blanks.take))
    assert len(list((tmp_path / "blank").iterdir())) == 3
    undo_rename(run.path, files.SPEC_FILE)
    run.path.rename(tmp_path / "blank" / "9")
    BlankDirectories(tmp_path).recover()
    assert list((tmp_path / "blank").iterdir()) == []
    assert run.complete_records() == ["spec.json"]
    assert run.spec().flow_run_id == RUN_ID


def test_no_blank_is_made_while_runs_ask_for_them(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    blanks = BlankDirectories(tmp_path)
    assert not blanks.take(tmp_path / "runs" / RUN_ID)
    asked_s = time.monotonic()
    blanks.refill()
    assert not (tmp_path / "blank").exists() or time.monotonic() - asked_s > blank_directories._REST_S
