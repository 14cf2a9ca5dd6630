"""Anything in a run's directory is read or refused; nothing outside it is touched."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from flowherd.errors import RunDirectoryDamaged
from flowherd.host import verdict
from flowherd.host.store.run_directory import RunDirectory
from flowherd.states import RunState
from flowherd_runner.contract import files
from tests.support.mutations import fuzz, mutated
from tests.support.run_files import TEMPLATE, apply, damages, fill, outside_files


@given(damage=damages())
@fuzz(150)
def test_the_files_of_a_run_are_read_or_refused_and_never_anything_else(damage: list[tuple[str, str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as place, outside_files() as outside:
        run_id = str(uuid.uuid4())
        path = Path(place) / run_id
        fill(path, run_id, 4_000_000)
        apply(path, damage, outside)
        directory = RunDirectory(path, run_id)
        for read in (directory.spec, directory.started, directory.exit_record, directory.stop_request):
            try:
                read()
            except RunDirectoryDamaged:
                pass
        try:
            assert all(report.flow_run_id == run_id for report in directory.outbox().reports)
        except RunDirectoryDamaged:
            pass
        assert 0 <= directory.forwarded() <= directory.journal_bytes()
        directory.quarantine_foreign_files()
        lock_fd = directory.try_lock()
        assert lock_fd is not None
        directory.append_notice("the end", 20)
        os.close(lock_fd)
        directory.set_forwarded(7)
        directory.remove()
        assert not path.exists()


@given(record=mutated(json.loads(TEMPLATE[files.EXIT_FILE])))
@fuzz(200)
def test_an_exit_record_is_judged_or_refused(record: Any) -> None:
    if not isinstance(record, dict):
        return
    try:
        found = verdict.of_exit_record(record)
    except ValueError:
        return
    assert found.state is not RunState.SUCCESS or record["exit_code"] == 0
    found.message.encode()


def test_pids_that_stand_for_many_processes_are_never_read_from_a_file(tmp_path: Path) -> None:
    for pid in (0, -1, 1, os.getpid(), True, "5", 2**22, 5.0, None):
        path = tmp_path / str(uuid.uuid4())
        path.mkdir()
        started = {"contract": 1, "pid": pid, "start_ticks": 1, "boot_id": "x"}
        (path / files.STARTED_FILE).write_text(json.dumps(started))
        with pytest.raises(RunDirectoryDamaged):
            RunDirectory(path, path.name).started()
