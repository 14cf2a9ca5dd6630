"""The log of supervisord's programs, and what is concluded from the little that supervisord says of an end."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from supervisor import events  # type: ignore[attr-defined]

from flowherd.programs import program_log
from flowherd.programs.entry import BACKOFF, EXITED, STOPPED, ProgramEntry
from flowherd.programs.program_log import (
    DIRECTORY,
    FILE,
    OLDER_FILE,
    Position,
    ProgramLog,
    end_of_log,
    read_log,
    read_on,
)
from flowherd.supervisord.agents_user import as_owner
from flowherd.supervisord.logged_ends import find_end
from flowherd.supervisord.program_verdict import KnownEnd, OomKills, entry_of
from flowherd.supervisord.supervisord_events import Event, Inbox, Losses, read_event
from flowherd_supervisord.program_ends import ProgramEnds


def entry(number: int) -> ProgramEntry:
    return ProgramEntry(at=float(number), program="web", what=EXITED, message="é" * 50, exit_code=0, expected=False)


def test_a_reader_gets_each_entry_once_also_over_a_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_log, "MOST_BYTES", 1_000)
    log, position, seen = ProgramLog(tmp_path), Position(), list[ProgramEntry]()
    for number in range(20):
        log.add(entry(number))
        if number % 2:
            found, position = read_on(tmp_path, position)
            seen += found
    assert seen == [entry(number) for number in range(20)]
    assert read_on(tmp_path, position) == ([], position) and position == end_of_log(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {FILE, OLDER_FILE}
    assert all(path.stat().st_size <= 1_000 for path in tmp_path.iterdir())
    assert read_log(tmp_path)[-1] == entry(19)


def test_a_cut_line_costs_only_itself(tmp_path: Path) -> None:
    log = ProgramLog(tmp_path)
    log.add(entry(1))
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"at": 2, "pro')
    first, position = read_on(tmp_path, Position())
    log.add(entry(3))
    second, _ = read_on(tmp_path, position)
    assert (first, second, read_log(tmp_path)) == ([entry(1)], [entry(3)], [entry(1), entry(3)])


def test_a_link_in_the_place_of_the_log_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("untouched")
    (tmp_path / FILE).symlink_to(other)
    with pytest.raises(OSError):
        ProgramLog(tmp_path).add(entry(1))
    (tmp_path / FILE).unlink()
    os.link(other, tmp_path / FILE)
    with pytest.raises(OSError, match="remove it"):
        ProgramLog(tmp_path).add(entry(1))
    assert other.read_text() == "untouched"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_root_writes_as_the_user_to_whom_the_directory_belongs() -> None:
    """A link of that user leads to nothing that the user could not write."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        top.chmod(0o755)
        of_user, of_root = top / "agent", top / "root"
        of_user.mkdir()
        of_root.mkdir(mode=0o700)
        os.chown(of_user, 12345, 12345)
        with as_owner(of_user):
            ProgramLog(of_user / DIRECTORY).add(entry(1))
        assert (of_user / DIRECTORY / FILE).stat().st_uid == 12345
        shutil.rmtree(of_user / DIRECTORY)
        (of_user / DIRECTORY).symlink_to(of_root)
        with pytest.raises(PermissionError), as_owner(of_user):
            ProgramLog(of_user / DIRECTORY).add(entry(1))
        assert (list(of_root.iterdir()), os.geteuid(), os.getegid()) == ([], 0, 0)


def test_the_plugin_in_supervisord_notes_ends_and_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """A subscriber that raises would end supervisord's loop; a reload of supervisord forgets all subscribers."""
    monkeypatch.setattr(events, "callbacks", [])
    ends = ProgramEnds()
    for _ in range(2):
        ends.subscribe()
    assert len(events.callbacks) == 5
    group = SimpleNamespace(config=SimpleNamespace(name="shop"))
    told = {"pid": 7, "exitstatus": -1, "laststart": 1.0, "spawnerr": None, "backoff": 0}
    process = SimpleNamespace(config=SimpleNamespace(name="web"), group=group, **told)
    event = events.ProcessStateExitedEvent(process, 20, False)
    events.notify(event)
    events.notify(events.ProcessStateBackoffEvent(SimpleNamespace(backoff=1), 10))
    assert ends.since(0) == []
    event.serial = 5
    end = {"program": "web", "group": "shop", "pid": 7, "started": 1.0, "exit_code": -1}
    (found,) = ends.since(5)
    assert abs(found.pop("at") - time.time()) < 60
    assert found == {**end, "spawn_error": "", "serial": 5} and ends.since(6) == []
    events.clear()
    ends.subscribe()
    assert len(events.callbacks) == 5


def test_missing_numbers_are_lost_events_and_repeated_ones_are_not() -> None:
    losses = Losses(4)
    assert [losses.before(number) for number in (5, 5, 6, 10, 0, 1)] == [0, 0, 0, 3, 0, 0]
    assert Losses(None).before(7) == 0


def test_a_full_inbox_drops_the_oldest_event() -> None:
    inbox = Inbox(2)
    for number in range(4):
        inbox.add(Event(name="X", serial=number, pool_serial=number, words={}))
    inbox.close()
    taken = [inbox.take(), inbox.take(), inbox.take()]
    assert [None if each is None else each.serial for each in taken] == [2, 3, None]


def test_an_event_is_read_by_its_length_in_characters() -> None:
    text = "processname:é groupname:shop from_state:RUNNING expected:0 pid:12"
    header = f"ver:3.0 server:s serial:7 pool:f poolserial:3 eventname:PROCESS_STATE_EXITED len:{len(text)}\n"
    event = read_event(io.StringIO(header + text))
    assert event is not None
    assert (event.program, event.pid, event.expected, event.pool_serial) == ("shop:é", 12, False, 3)
    assert read_event(io.StringIO("")) is None and read_event(io.StringIO(header + text[:5])) is None
    with pytest.raises(ValueError, match="header of an event has no"):
        read_event(io.StringIO("Traceback (most recent call last):\n"))


NOW = 1_800_000_000.0


def lines(*texts: str, at: float = NOW) -> str:
    return "".join(f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(at))},000 INFO {text}\n" for text in texts)


def test_an_end_in_supervisords_log_is_found_by_pid_or_else_by_name_and_time() -> None:
    log = lines("spawned: 'web' with pid 7", "exited: web (terminated by SIGSEGV (core dumped); not expected)")
    found = find_end(log, "web", 7, NOW + 3600)
    assert found is not None and (found.signal, found.exit_code, found.is_certain) == ("SIGSEGV", -1, True)
    assert find_end(log, "web", 8, NOW + 3600) is None
    assert find_end(log, "webs", None, NOW) is None
    by_name = find_end(log, "web", None, NOW + 1)
    assert by_name is not None and by_name.is_certain
    # Two groups can have a process of the same name.
    twice = lines("exited: web (exit status 1; not expected)", "exited: web (exit status 2; not expected)")
    either = find_end(twice, "web", None, NOW)
    assert either is not None and (either.exit_code, either.is_certain) == (2, False)
    mixed = lines("spawned: 'web' with pid 7", "spawned: 'web' with pid 8", "exited: web (exit status 1; expected)")
    assert find_end(mixed, "web", 7, NOW + 3600) is None


VMSTAT = OomKills(kills=1, source="/proc/vmstat")
OWN = OomKills(kills=1, source="/sys/fs/cgroup/x/memory.events", is_own=True)


@pytest.mark.parametrize(
    ("what", "expected", "end", "oom", "reason", "grade", "words"),
    [
        (EXITED, False, KnownEnd(exit_code=-1), OomKills(), "signal", "proven", "a signal, not known which."),
        (EXITED, False, KnownEnd(), VMSTAT, None, None, "exit code is not known"),
        (EXITED, False, KnownEnd(exit_code=3), VMSTAT, "exited", "proven", "none of its exitcodes"),
        (EXITED, False, KnownEnd(exit_code=-1, signal="SIGKILL"), VMSTAT, "oom_killer", "probable", "probable: by"),
        (EXITED, False, KnownEnd(exit_code=-1, signal="SIGKILL"), OWN, "oom_killer", "proven", "its own cgroup"),
        (EXITED, False, KnownEnd(exit_code=-1), OWN, "oom_killer", "probable", "not known which (probable"),
        (EXITED, False, KnownEnd(exit_code=-1, signal="SIGTERM"), OWN, "signal", "proven", "by SIGTERM."),
        (BACKOFF, None, KnownEnd(exit_code=1, is_certain=False), OomKills(), "exited", "probable", "(probable)."),
        (BACKOFF, None, KnownEnd(), OomKills(), None, None, "before its startsecs had passed; its exit code"),
        (STOPPED, None, KnownEnd(exit_code=-1, signal="SIGKILL"), VMSTAT, "stopped", "proven", "ended by SIGKILL"),
    ],
)
def test_an_end_is_graded_by_what_is_known(
    what: str, expected: bool | None, end: KnownEnd, oom: OomKills, reason: str | None, grade: str | None, words: str
) -> None:
    found = entry_of(what, "web", NOW, expected, end, oom)
    assert (found.reason, found.grade) == (reason, grade)
    assert words in found.message
