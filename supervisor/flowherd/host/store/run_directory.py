"""One run's directory: the files that agent and runner share, and the agent's own two. Decides nothing."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowherd.errors import RunDirectoryDamaged
from flowherd.states import FINISHED, WAITING, RunState
from flowherd.times import read_time
from flowherd.values import StateReport
from flowherd_runner.contract import faults, files, journal
from flowherd_runner.contract.spec import RunSpec, salvage_spec, spec_to_json

#: Tells the agent's notices in a journal from the runner's, which name no logger.
_AGENT_LOGGER = "flowherd"
#: Room for two of the longest records, so that a whole one is found in front of a torn one.
_LAST_RECORD_BYTES = 2 * (journal.MAX_LINE_BYTES + journal.HEADER_BYTES)
#: In the new name of what was set aside.
_SET_ASIDE = "set-aside"
_MAX_OFFSET_DIGITS = 20
#: PID_MAX_LIMIT of a 64-bit kernel (proc(5), pid_max).
_PID_END = 1 << 22
_BEFORE_THE_END = frozenset({RunState.SUBMITTED, RunState.RUNNING})


@dataclass(frozen=True, kw_only=True)
class Started:
    """Who the runner is, as it wrote down itself before any user code ran."""

    pid: int
    start_ticks: int
    boot_id: str
    #: Of the flow process; None until it was forked.
    flow_pid: int | None
    #: The kernel's count of out-of-memory kills at the start, where the runner could read it.
    oom_kills: int | None = None


@dataclass(frozen=True, kw_only=True)
class Outbox:
    """State reports that the backend has not acknowledged, oldest first."""

    reports: tuple[StateReport, ...] = ()
    #: The run's end is decided; when `reports` is empty too, the backend knows all that there is to know.
    final: bool = False
    #: What the run is in after all the reports, acknowledged or not; once `final`, also what it waits in for its next
    #: start, which will have a directory content of its own.
    state: RunState = RunState.SUBMITTED


class RunDirectory:
    """The files of one flow run."""

    def __init__(self, path: Path, flow_run_id: str) -> None:
        self.path = path
        self.flow_run_id = flow_run_id
        self.journal = path / files.JOURNAL_FILE
        self._forwarded: int | None = None

    # -- what may stand there

    def is_directory(self) -> bool:
        """Whether it is there, and itself a directory: a link may lead out of the state directory."""
        try:
            return stat.S_ISDIR(self.path.lstat().st_mode)
        except OSError:
            return False

    def quarantine_foreign_files(self) -> list[str]:
        """Rename what has a name of the contract and is no regular file; the names. Follows no link, removes nothing.

        Raises OSError when it cannot be renamed.
        """
        names = [name for name in (files.LOCK_FILE, *files.CONTENT_FILES) if self._is_foreign(name)]
        for name in names:
            self.set_aside(name)
        return names

    def set_aside(self, name: str) -> None:
        """Give a file that cannot be used another name, under which nobody looks but a person. Raises OSError."""
        (self.path / name).rename(self.path / f"{name}.{_SET_ASIDE}-{time.time_ns()}")

    def had(self, name: str) -> bool:
        """Whether there is, or was set aside, anything under `name`."""
        return os.path.lexists(self.path / name) or any(self.path.glob(f"{name}.{_SET_ASIDE}-*"))

    def _is_foreign(self, name: str) -> bool:
        try:
            return not stat.S_ISREG((self.path / name).lstat().st_mode)
        except FileNotFoundError:
            return False

    # -- before the start

    def create(self, spec: RunSpec) -> int:
        """Make the directory with its spec, and return the descriptor that holds its lock.

        What an earlier start of the same flow run left there goes first. All of it is on the disk when this returns.
        Raises RunDirectoryDamaged when a runner has it, or when something else stands there.
        """
        with contextlib.suppress(FileExistsError):
            self.path.mkdir(mode=0o700)
        if not self.is_directory():
            raise RunDirectoryDamaged(f"{self.path} is not a directory of flowherd's; look at it and take it away")
        self.quarantine_foreign_files()
        self._forwarded = None
        lock_fd = self.try_lock()
        if lock_fd is None:
            raise RunDirectoryDamaged(f"a runner holds {self.path}")
        try:
            self._clear()
            faults.point("before-intent")
            files.write_json(str(self.path), files.SPEC_FILE, spec_to_json(spec))
            files.sync_directory(str(self.path.parent))
        except OSError:
            self.remove()
            os.close(lock_fd)
            raise
        return lock_fd

    def try_lock(self) -> int | None:
        """A descriptor that holds the run's lock, or None while a runner (or its starter) holds it."""
        fd = files.open_regular(str(self.path / files.LOCK_FILE), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd

    def lock_is_held(self) -> bool:
        """Whether a runner lives."""
        fd = self.try_lock()
        if fd is None:
            return True
        os.close(fd)
        return False

    # -- what the runner wrote

    def spec(self) -> RunSpec:
        """Return what can be used of spec.json. Raises RunDirectoryDamaged when it is not there or not readable."""
        spec = self._read(files.SPEC_FILE)
        if spec is None:
            raise RunDirectoryDamaged(f"{self.path} has no {files.SPEC_FILE}")
        return salvage_spec(spec)

    def started(self) -> Started | None:
        """The runner's own identity, once it has written it."""
        record = self._read(files.STARTED_FILE)
        if record is None:
            return None
        try:
            return Started(
                pid=_pid(record["pid"]),
                start_ticks=_count(record["start_ticks"]),
                boot_id=_text(record["boot_id"]),
                flow_pid=None if record.get("flow_pid") is None else _pid(record["flow_pid"]),
                oom_kills=None if record.get("oom_kills") is None else _count(record["oom_kills"]),
            )
        except (KeyError, TypeError) as error:
            raise RunDirectoryDamaged(f"{self.path / files.STARTED_FILE} is damaged: {error}") from error

    def exit_record(self) -> dict[str, Any] | None:
        """exit.json, once the runner has written it."""
        return self._read(files.EXIT_FILE)

    # -- what the agent writes

    def write_stop(self, reason: str, detail: str, grace_s: float) -> None:
        """Say why the run is to end, before the signal that asks."""
        stop = {"reason": reason, "detail": detail, "grace_s": grace_s}
        files.write_json(str(self.path), files.STOP_FILE, stop, sync=False)

    def forwarded(self) -> int:
        """The journal offset up to which the backend has the log."""
        if self._forwarded is None:
            self._forwarded = self._stored_forwarded()
        return self._forwarded

    def _stored_forwarded(self) -> int:
        try:
            with os.fdopen(files.open_regular(str(self.path / files.FORWARDED_FILE), os.O_RDONLY), "rb") as file:
                offset = int(file.read(_MAX_OFFSET_DIGITS))
        except (OSError, ValueError):  # never written, or damaged: the log is sent again from its beginning
            return 0
        return offset if 0 <= offset <= self.journal_bytes() else 0

    def set_forwarded(self, offset: int) -> None:
        """Remember `offset`, by rename; only in memory where the disk refuses it.

        After a crash of the agent the lines are then sent again, which servers that know line ids do not store twice.
        """
        self._forwarded = offset
        temporary = self.path / f".{files.FORWARDED_FILE}.new"
        with contextlib.suppress(OSError):
            fd = files.open_regular(str(temporary), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            with os.fdopen(fd, "wb") as file:
                file.write(str(offset).encode())
            temporary.rename(self.path / files.FORWARDED_FILE)

    def append_notice(self, message: str, level: int) -> None:
        """End the journal with a line of the agent's own; only for the holder of the run's lock, which the writer is.

        One that an earlier agent has written stays and stands alone: a crash right after this does not double it, and
        the words may differ, for the earlier one had watched the run. Raises OSError when the disk does not take it.
        """
        payload = json.dumps({"logger": _AGENT_LOGGER, "message": message}).encode()
        last = self._last_record()
        if _is_the_agents(last):
            return
        self._drop_torn(last)
        time_ns = max(time.time_ns(), last.time_ns + 1000 if last else 0)
        record = journal.pack_record(journal.STREAM_NOTICE, level, time_ns, payload)
        fd = files.open_regular(str(self.journal), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(fd, record)
        finally:
            os.close(fd)

    def end_is_told(self) -> bool:
        """Whether an agent has concluded how the run ended and ended the journal with it."""
        return _is_the_agents(self._last_record())

    def journal_bytes(self) -> int:
        """How long the journal is now."""
        try:
            return self.journal.lstat().st_size
        except OSError:
            return 0

    def unsent_bytes(self) -> int:
        """How much of the journal the backend has not yet."""
        return max(0, self.journal_bytes() - self.forwarded())

    def outbox(self) -> Outbox:
        """The reports still to be acknowledged."""
        record = self._read(files.OUTBOX_FILE)
        if record is None:
            return Outbox()
        try:
            reports = tuple(_report_from_json(item, self.flow_run_id) for item in record["reports"])
            return _consistent(Outbox(reports=reports, final=record["final"], state=RunState(record["state"])))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise RunDirectoryDamaged(f"{self.path / files.OUTBOX_FILE} is damaged: {error}") from error

    def write_outbox(self, outbox: Outbox) -> None:
        """Remember what is still to be told, durably."""
        reports = [_report_to_json(report) for report in outbox.reports]
        content = {"reports": reports, "final": outbox.final, "state": outbox.state.value}
        files.write_json(str(self.path), files.OUTBOX_FILE, content)

    def ended_at(self) -> float:
        """Seconds since the epoch at which the run's end was written down; 0.0 when it was not."""
        with contextlib.suppress(OSError):
            return (self.path / files.OUTBOX_FILE).lstat().st_mtime
        return 0.0

    def remove(self) -> None:
        """Take the whole directory away. The spec goes first, so a half-removed one is nobody's."""
        if not self.is_directory():
            return
        self._disown()
        faults.point("during-remove")
        shutil.rmtree(self.path, ignore_errors=True)

    def is_abandoned(self) -> bool:
        """Whether there is no spec: not written yet, or half removed. What else is there means nothing then."""
        return not self.had(files.SPEC_FILE)

    def _disown(self) -> None:
        with contextlib.suppress(OSError):
            (self.path / files.SPEC_FILE).unlink()

    def _clear(self) -> None:
        self._disown()
        for entry in self.path.iterdir():
            if entry.name == files.LOCK_FILE:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink()

    def _last_record(self) -> journal.Record | None:
        try:
            with os.fdopen(files.open_regular(str(self.journal), os.O_RDONLY), "rb") as file:
                start = file.seek(max(0, self.journal_bytes() - _LAST_RECORD_BYTES))
                return deque(journal.unpack_records(file.read(2 * _LAST_RECORD_BYTES), start), maxlen=1).pop()
        except (FileNotFoundError, IndexError):
            return None

    def _drop_torn(self, last: journal.Record | None) -> None:
        """Cut off what a killed writer left of its last record: a reader would wait for the rest, and see no more."""
        size = self.journal_bytes()
        if last is not None and last.end < size:
            self._cut_journal(last.end)
        elif last is None and 0 < size < _LAST_RECORD_BYTES:
            self._cut_journal(0)

    def _cut_journal(self, size_bytes: int) -> None:
        with os.fdopen(files.open_regular(str(self.journal), os.O_RDWR), "r+b") as file:
            file.truncate(size_bytes)

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            return files.read_json(str(self.path), name)
        except (ValueError, OSError) as error:
            raise RunDirectoryDamaged(f"{self.path / name} cannot be read: {error}") from error


def _is_the_agents(record: journal.Record | None) -> bool:
    if record is None or record.stream != journal.STREAM_NOTICE:
        return False
    try:
        content = json.loads(record.payload)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("logger") == _AGENT_LOGGER


def _report_to_json(report: StateReport) -> dict[str, Any]:
    return {**vars(report), "state": report.state.value, "at": report.at.isoformat()}


def _report_from_json(item: Mapping[str, Any], flow_run_id: str) -> StateReport:
    at = read_time(_text(item["at"]), naive="refuse")
    version, pid = item.get("version"), item.get("pid")
    optional = {name: item[name] for name in ("claim", "reason", "grade") if item.get(name) is not None}
    return StateReport(
        # The directory's name, whatever the file says: a damaged one must not speak for another run.
        flow_run_id=flow_run_id,
        state=RunState(item["state"]),
        message=_text(item["message"]),
        at=at,
        version=None if version is None else _count(version),
        pid=None if pid is None else _pid(pid),
        of_process=item.get("of_process") is True,
        **{name: _text(value) for name, value in optional.items()},
    )


def _consistent(outbox: Outbox) -> Outbox:
    if outbox.final is not (outbox.state in FINISHED | WAITING):
        raise ValueError(f"final is {outbox.final!r} in state {outbox.state}")
    if not outbox.final and outbox.state not in _BEFORE_THE_END:
        raise ValueError(f"a run here is never {outbox.state}")
    return outbox


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"no text: {value!r:.80}")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise TypeError(f"no count: {value!r:.80}")
    return value


def _pid(value: Any) -> int:
    """A process that can be a run's: neither everybody (0, negative), nor init, nor this agent itself."""
    if type(value) is not int or not 1 < value < _PID_END or value == os.getpid():
        raise TypeError(f"no pid of a run: {value!r:.80}")
    return value
