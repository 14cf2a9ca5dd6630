"""Output that is not finished when somebody looks: text so far, the end of a run, a disk without room."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowherd_runner.contract.files import JOURNAL_FILE
from flowherd_runner.contract.journal import unpack_all
from tests.support.runner import ForkServer, Run
from tests.support.small_disk import mounted
from tests.support.waiting import wait_until


def so_far(run: Run) -> list[str]:
    """The texts so far in the journal."""
    path = run.directory / JOURNAL_FILE
    records = unpack_all(path.read_bytes()) if path.exists() else []
    return [record.payload.decode() for record in records if record.so_far]


def test_text_without_a_newline_is_in_the_journal_while_the_run_waits(fork_server: ForkServer, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    run = fork_server.command("sh", "-c", f"printf 'Continue? '; until [ -e {go_on} ]; do sleep 0.02; done; echo yes")
    wait_until(lambda: so_far(run) == ["Continue? "], what=run.describe)
    assert run.lines("stdout") == []
    go_on.touch()
    assert run.wait()["lines"] == 1
    assert run.lines("stdout") == ["Continue? yes"]
    assert so_far(run) == ["Continue? "]


def test_a_bar_is_updated_about_once_a_second_and_keeps_its_last_state(fork_server: ForkServer) -> None:
    code = """
import sys, time
for n in range(31):
    sys.stderr.write("\\r%3d%%|%s|" % (100 * n // 30, "#" * n))
    sys.stderr.flush()
    time.sleep(0.08)
"""
    run = fork_server.command(sys.executable, "-c", code)
    run.wait()
    assert run.lines("stderr") == ["100%|" + "#" * 30 + "|"]
    assert 2 <= len(so_far(run)) <= 4
    assert all(text.endswith("|") and text.count("%") == 1 for text in so_far(run))


def test_text_so_far_never_shows_the_beginning_of_a_secret(fork_server: ForkServer, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    wait = f"until [ -e {go_on} ]; do sleep 0.02; done"
    script = f"printf 'key hunter2'; {wait}; printf -- '-correct-horse and mo'; sleep 1.5; echo re"
    run = fork_server.command("sh", "-c", script, env={"API_KEY": "hunter2-correct-horse"})
    wait_until(lambda: so_far(run) == ["key "], what=run.describe)
    go_on.touch()
    run.wait()
    assert so_far(run) == ["key ", "key *** and mo"]
    assert run.lines("stdout") == ["key *** and more"]


def test_a_record_keeps_its_place_within_text_so_far(fork_server: ForkServer) -> None:
    code = """
import logging, sys, time
def main():
    sys.stdout.write("so far")
    sys.stdout.flush()
    time.sleep(0.4)
    logging.info("in between")
    print(" and more")
"""
    run = fork_server.python(code)
    run.wait()
    assert run.lines() == ["in between", "so far and more"]
    assert so_far(run) == ["so far"]


def test_output_that_arrives_while_the_run_is_ended_is_journaled(fork_server: ForkServer) -> None:
    run = fork_server.command("sh", "-c", "trap 'seq 1000; exit 5' TERM; echo ready; while :; do sleep 0.01; done")
    run.wait_for_line("ready")
    run.stop()
    record = run.wait()
    assert (record["reason"], record["exit_code"]) == ("cancelled", 5)
    assert run.lines("stdout") == ["ready", *map(str, range(1, 1001))]


def test_the_journal_is_private_and_the_runner_reports_no_error(fork_server: ForkServer) -> None:
    run = fork_server.command("echo", "x")
    run.wait()
    modes = {path.name: path.stat().st_mode & 0o777 for path in run.directory.iterdir() if path.is_file()}
    assert set(modes.values()) == {0o600}
    assert (run.directory / "runner.err").read_text() == ""


# A full disk.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    with mounted(tmp_path / "disk", "512k") as place:
        yield place


def run_on(disk: Path, server: ForkServer, run: Run) -> Run:
    """The same run, with its directory on `disk`."""
    moved = disk / run.directory.name
    moved.mkdir(mode=0o700)
    (moved / "spec.json").write_bytes((run.directory / "spec.json").read_bytes())
    run.directory = moved
    return server.start(run)


def test_a_full_disk_drops_and_counts_lines_and_tears_nothing(fork_server: ForkServer, small_disk: Path) -> None:
    run = run_on(small_disk, fork_server, fork_server.prepare("command", {"argv": ["seq", "100000"]}))
    record = run.wait()
    assert (record["reason"], record["exit_code"]) == ("exited", 0)
    kept = record["lines"]
    assert 0 < kept < 100_000
    assert record["lines_dropped"] == 100_000 - kept
    assert run.lines("stdout") == [str(number) for number in range(1, kept + 1)]
    assert (run.directory / JOURNAL_FILE).stat().st_size == run.records()[-1].end


def test_output_goes_on_with_a_notice_once_the_disk_has_room(fork_server: ForkServer, small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    code = f"""
import os, time
def main():
    print("before")
    with open({str(ballast)!r}, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    for number in range(12000):  # more than the pipe holds (pipe(7)), so that the runner reads while the disk is full
        print("lost or kept %d" % number)
    open("full", "w").close()
    while os.path.exists({str(ballast)!r}):
        time.sleep(0.01)
    number = 0
    while not os.path.exists("enough"):
        print("after %d" % number)
        number += 1
        time.sleep(0.05)
"""
    source = small_disk.parent / "flow.py"
    source.write_text(code)
    work = small_disk.parent / "work"
    work.mkdir()
    spec = fork_server.prepare("python", {"ref": f"{source}:main"}, working_dir=str(work))
    run = run_on(small_disk, fork_server, spec)
    wait_until((work / "full").exists)
    ballast.unlink()
    wait_until(lambda: any(line.startswith("after") for line in run.lines()), what=run.describe)
    (work / "enough").touch()
    record = run.wait()
    assert record["lines_dropped"] > 0
    notice = next(line for line in run.lines("flowherd") if "the disk refused" in line)
    assert notice.endswith("No space left on device")
    lost = int(notice.split()[0])
    assert lost == record["lines_dropped"]
    kept = [line for line in run.lines("stdout") if line.startswith("lost or kept")]
    afterwards = [line for line in run.lines("stdout") if line.startswith("after")]
    first_after = int(afterwards[0].split()[1])
    assert len(kept) + first_after + lost >= 3000
    assert afterwards == [f"after {first_after + i}" for i in range(len(afterwards))]
