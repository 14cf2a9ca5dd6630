"""The files of a living run are made again when a cleaner of temporary files has removed them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from flowherd_runner.contract import files
from flowherd_runner.kept_files import KeptFiles
from tests.support.runner import ForkServer
from tests.support.waiting import wait_until

KEPT = (files.LOCK_FILE, files.SPEC_FILE, files.STARTED_FILE, files.JOURNAL_FILE)


def test_a_run_whose_directory_is_removed_ends_with_its_record_and_its_whole_log(
    fork_server: ForkServer, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    run = fork_server.command("sh", "-c", f"echo before; while [ ! -e {go} ]; do sleep 0.02; done; echo after")
    run.wait_for_line("before")
    started = run.started
    shutil.rmtree(run.directory)
    go.touch()
    record = run.wait()
    assert record["exit_code"] == 0
    assert run.lines("stdout") == ["before", "after"]
    assert run.started == started
    assert files.read_json(str(run.directory), files.SPEC_FILE)["target"] == run.spec["target"]
    assert any("removed from the run's directory by another program" in line for line in run.lines("flowherd"))
    assert run.directory.stat().st_mode & 0o777 == 0o700


def test_files_are_made_again_with_their_content_while_the_run_goes_on(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    for name in KEPT:
        (directory / name).write_bytes(name.encode() * 1000)
    lock_fd = os.open(directory / files.LOCK_FILE, os.O_RDWR)
    journal_fd = os.open(directory / files.JOURNAL_FILE, os.O_WRONLY | os.O_APPEND)
    kept = KeptFiles(str(directory), lock_fd, journal_fd)
    kept.keep(files.STARTED_FILE)
    assert kept.make_again() == []
    for name in KEPT:
        (directory / name).unlink()
        assert kept.make_again() == [name]
        assert name == files.LOCK_FILE or (directory / name).read_bytes() == name.encode() * 1000
    os.write(journal_fd, b"more")
    assert (directory / files.JOURNAL_FILE).read_bytes().endswith(b"journalmore")
    assert os.path.samestat(os.fstat(lock_fd), (directory / files.LOCK_FILE).stat())
    for fd in (lock_fd, journal_fd):
        os.close(fd)


def test_the_lock_is_held_again_soon_while_the_run_goes_on(fork_server: ForkServer) -> None:
    run = fork_server.command("sleep", "100")
    wait_until(lambda: run.started)
    (run.directory / files.LOCK_FILE).unlink()
    wait_until(lambda: (run.directory / files.LOCK_FILE).exists() and run.lock_is_held(), timeout_s=15, every_s=0.2)
    run.stop(grace_s=1.0)
    assert run.wait()["reason"] == "cancelled"
