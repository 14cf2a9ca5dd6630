"""The ends of runs that the backend knows, kept for a while in one file of the state directory.

If the backend is restored from an older copy, they are reported again (host/delivery/older_copy.py). Each line of the
file is one end: the CRC-32 of the rest in eight hex digits, a space, and a JSON object:

    kept              when it was written, seconds since the epoch
    id                the flow run
    claimed_version   version of the flow run's state that was claimed; null if not known
    end_version       version of its end; null if not known
    started_at        when it started, ISO 8601; null if it did not
    report            state, message, at, claim, pid, reason and grade, as in an outbox

Lines are only appended, each by one write(2), and the file is written anew, by rename, when enough of it is out of
date. A later line of a run replaces an earlier one. A line that is torn or damaged is left out. Lines are not flushed
to the disk one by one, so a power cut can cost the newest; the death of the agent costs none.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
import zlib
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from loguru import logger

from flowherd.host.store.outbox import report_from_json, report_to_json
from flowherd.host.store.records import checked_count, past_time
from flowherd.host.store.state_names import ENDED_RUNS_FILE
from flowherd.recurring_error import RecurringError
from flowherd.values import StateReport, checked_id
from flowherd_runner.contract import files

#: Maximum number of ends that are kept.
MOST_ENDS = 10_000
#: Longest message of a kept end, characters.
_MESSAGE_LENGTH = 1_000
#: A longer line is none of ours.
_LINE_BYTES = 16_384
#: How many lines may be out of date before the file is written anew: this number, or a quarter of the others.
_OUT_OF_DATE = 256
#: So much of a larger file is read, its end; ours never gets there.
_LARGEST_BYTES = (MOST_ENDS + MOST_ENDS // 4) * 2 * _MESSAGE_LENGTH


@dataclass(frozen=True, kw_only=True)
class KeptEnd:
    """How a run ended, with what shows whether a backend's state of it is older."""

    report: StateReport
    claimed_version: int | None = None
    end_version: int | None = None
    started_at: datetime | None = None


class KeptEnds:
    """The ends in `directory`, each kept for `keep_s` seconds, `most` at most; 0 seconds keep none. For any thread.

    A file that cannot be read or written is logged, and harms nothing but what it would have held.
    """

    def __init__(self, directory: Path, keep_s: float, most: int = MOST_ENDS) -> None:
        self._path = directory / ENDED_RUNS_FILE
        self._keep_s = keep_s
        self._most = most
        self._lock = threading.Lock()
        #: When it was kept, and its line, by flow run id; oldest first.
        self._lines: dict[str, tuple[float, bytes]] = {}
        #: Number of lines in the file.
        self._written = 0
        #: Whether the file is there and ends with a whole line: after a torn one nothing may be appended.
        self._is_whole = False
        self._fd: int | None = None
        self._errors = RecurringError(f"write {self._path}", logger)
        self._load()

    def add(self, end: KeptEnd) -> None:
        """Keep an end, in the place of an earlier one of the run."""
        if self._keep_s <= 0:
            return
        kept_s = time.time()
        line = _line(end, kept_s)
        with self._lock:
            self._lines.pop(end.report.flow_run_id, None)
            self._lines[end.report.flow_run_id] = (kept_s, line)
            self._forget_old()
            try:
                self._write(line)
            except OSError as error:
                self._is_whole = False
                self._errors.failed(error)
            else:
                self._errors.recovered()

    def get(self, flow_run_id: str) -> KeptEnd | None:
        """Return the end of a run; None if none is kept."""
        with self._lock:
            kept_s, line = self._lines.get(flow_run_id, (0.0, b""))
        return None if not line or self._is_old(kept_s) else _end_of(line)[2]

    def ids(self) -> list[str]:
        """Return the ids of the runs whose ends are kept, newest first."""
        with self._lock:
            self._forget_old()
            return list(reversed(self._lines))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._fd is not None:
                os.close(self._fd)
            self._fd = None

    def _load(self) -> None:
        try:
            data = self._read()
        except OSError as error:
            self._errors.failed(error)
            return
        whole, damaged = 0, 0
        for line in data.split(b"\n"):
            try:
                kept_s, run_id, _ = _end_of(line)
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
                damaged += bool(line)
                continue
            whole += 1
            self._lines.pop(run_id, None)
            self._lines[run_id] = (min(kept_s, time.time()), line)
        if damaged:
            logger.warning("{} lines of {} are torn or damaged and left out", damaged, self._path)
        self._forget_old()
        self._written, self._is_whole = whole, not damaged and data.endswith(b"\n")

    def _read(self) -> bytes:
        try:
            fd = files.open_regular(str(self._path), os.O_RDONLY)
        except FileNotFoundError:
            return b""
        with os.fdopen(fd, "rb") as file:
            file.seek(max(0, os.fstat(fd).st_size - _LARGEST_BYTES))
            return file.read(_LARGEST_BYTES)

    def _forget_old(self) -> None:
        while self._lines:
            oldest = next(iter(self._lines))
            if len(self._lines) <= self._most and not self._is_old(self._lines[oldest][0]):
                return
            del self._lines[oldest]

    def _is_old(self, kept_s: float) -> bool:
        return kept_s + self._keep_s <= time.time()

    def _write(self, line: bytes) -> None:
        is_removed = self._fd is not None and os.fstat(self._fd).st_nlink == 0
        out_of_date = self._written + 1 - len(self._lines)
        if is_removed or not self._is_whole or out_of_date > max(_OUT_OF_DATE, len(self._lines) // 4):
            self._write_anew()
            return
        if self._fd is None:
            self._fd = files.open_regular(str(self._path), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        data = line + b"\n"
        if os.write(self._fd, data) != len(data):
            raise OSError(f"only a part of a line could be written to {self._path}")
        self._written += 1

    def _write_anew(self) -> None:
        temporary = self._path.with_name(f".{self._path.name}.new")
        temporary.unlink(missing_ok=True)
        fd = files.open_regular(str(temporary), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.writelines(line + b"\n" for _, line in self._lines.values())
            os.fsync(fd)
            temporary.replace(self._path)
        except OSError:
            os.close(fd)
            raise
        if self._fd is not None:
            os.close(self._fd)
        self._fd, self._written, self._is_whole = fd, len(self._lines), True
        files.sync_directory(str(self._path.parent))


def _line(end: KeptEnd, kept_s: float) -> bytes:
    report = end.report
    if len(report.message) > _MESSAGE_LENGTH:
        report = replace(report, message=f"{report.message[: _MESSAGE_LENGTH - 1]}…")
    value = {
        "kept": kept_s,
        "id": report.flow_run_id,
        "claimed_version": end.claimed_version,
        "end_version": end.end_version,
        "started_at": None if end.started_at is None else end.started_at.isoformat(),
        "report": {name: item for name, item in report_to_json(report).items() if item is not None},
    }
    data = json.dumps(value, separators=(",", ":")).encode()
    return b"%08x %s" % (zlib.crc32(data), data)


def _end_of(line: bytes) -> tuple[float, str, KeptEnd]:
    """Return when an end was kept, of which run, and the end. Raises ValueError, TypeError or KeyError if damaged."""
    checksum, _, data = line.partition(b" ")
    if len(line) > _LINE_BYTES or len(checksum) != 8 or int(checksum, 16) != zlib.crc32(data):
        raise ValueError("the checksum does not match")
    value = json.loads(data)
    run_id = checked_id(value["id"])
    versions = {
        name: None if value.get(name) is None else checked_count(value[name])
        for name in ("claimed_version", "end_version")
    }
    kept_s = float(value["kept"])
    if not math.isfinite(kept_s):
        raise ValueError(f"not a time: {kept_s}")
    report = report_from_json(value["report"], run_id)
    return kept_s, run_id, KeptEnd(report=report, started_at=past_time(value.get("started_at")), **versions)
