"""The files of a run directory: names, shapes, and JSON objects that are written as a whole or not at all.

spec.json, written by the agent: see spec.py

started, written by the runner: pid, start_ticks, boot_id, started_at (ISO 8601, UTC), flow_pid (once it is known),
oom_kills (the kernel's count of out-of-memory kills on this host at the start; null when it cannot be read),
isolation (see isolation.py; only of a run that was to be kept apart)

stop.json, written by the agent: reason (reasons.py), detail (str), grace_s (float)

exit.json, written by the runner:

    reason, grade, evidence   see reasons.py; evidence is one sentence
    exit_code, signal         int | null; of the flow process; both null when it still lives, see survivors
    exception                 {"type": str, "message": str} | null
    detail                    str | null: the detail of stop.json
    started_at, ended_at      ISO 8601, UTC
    cpu_time_s, peak_memory_bytes   of the reaped processes together / of the largest one (getrusage(2))
    leftovers                 [{"pid": int, "name": str}]: processes that outlived the flow process and were ended;
                              50 at most, leftovers_count is the number of all
    survivors                 [{"pid": int, "start_ticks": int, "boot_id": str, "name": str, "user": str | null,
                              "refused": bool}]: processes of the run that were looked for after the killing and
                              still lived; refused: this user may not signal them (kill(2), EPERM), else SIGKILL did
                              not end them. 50 at most. Release 0.1.0 neither writes nor reads it
    searched                  bool: whether all processes of the host were looked at; if not, wait4(2) had said that
                              no descendant was left, and the agent does that search. Without it: true (0.1.0)
    phases                    {str: float}: times at which the run went on, seconds since the epoch: spec.json was
                              written (intent), the runner was given the directory (asked), the flow process was let
                              go to the user's code (code), its first line came (first_line; missing without one),
                              this record was made (recorded). Missing before 0.2
    asked_at, killed_at       float | null: when the runner asked the flow process to end, and when it killed it because
                              it had not ended, seconds since the epoch. Missing before 0.2
    lines, lines_cut, lines_dropped int: journaled, journaled in part, not journaled (cap or full disk)

after_end.json, written by the runner: wanted ([str]), what the flow's engine wants to be done once the end of a killed
process was reported, in the engine's words; the agent then starts the directory a second time, with the journal and the
attempt id of the first, and keeps the first end as first-exit.json meanwhile
"""

import errno
import json
import os
import stat
from typing import Any, Callable, Dict, List, Optional

#: Goes up when a shape changes so that an older reader would misread it; both sides refuse a newer one.
CONTRACT_VERSION = 1

#: Locked with flock(2) as long as the runner lives.
LOCK_FILE = "lock"
#: Description of the run; written and synced by the agent before the claim.
SPEC_FILE = "spec.json"
#: Written by the runner before any of the user's code runs.
STARTED_FILE = "started"
#: Output of the run, append-only records.
JOURNAL_FILE = "journal"
#: Journal offset that the backend has acknowledged, as decimal text.
FORWARDED_FILE = "forwarded"
#: Why the agent asked the runner to end the run; written before the signal is sent.
STOP_FILE = "stop.json"
#: How the run ended; written by the runner, by rename, as its last act.
EXIT_FILE = "exit.json"
#: State reports that the backend has not acknowledged yet; only the agent uses it.
OUTBOX_FILE = "outbox"
#: What is to be done after the end of a killed process.
AFTER_END_FILE = "after_end.json"
#: The exit record of the run itself, while the directory is started a second time.
FIRST_EXIT_FILE = "first-exit.json"
#: What the agent's search of the host for strays of the run found; only the agent uses it.
SEARCH_FILE = "search.json"
#: What happened to the run and what it used, as far as the agent has written it down; only the agent uses it.
ACCOUNT_FILE = "account.json"
#: Errors of the runner itself; empty when there are none.
RUNNER_ERRORS_FILE = "runner.err"
#: Directory with the run's own /tmp and /var/tmp, which the flow process makes for a run with a level of isolation;
#: removed when the run has ended, also if its records are kept.
PRIVATE_DIRECTORY = "private"

#: All names of files above except the lock.
CONTENT_FILES = (
    SPEC_FILE,
    STARTED_FILE,
    JOURNAL_FILE,
    FORWARDED_FILE,
    STOP_FILE,
    EXIT_FILE,
    OUTBOX_FILE,
    AFTER_END_FILE,
    FIRST_EXIT_FILE,
    SEARCH_FILE,
    ACCOUNT_FILE,
    RUNNER_ERRORS_FILE,
)

#: The records on which a promise hangs after a power cut: their files are made before they are written.
PREPARED_FILES = (SPEC_FILE, STARTED_FILE, EXIT_FILE)

#: Ten years, in seconds: no duration in these files is longer, and every clock and timer can still count it.
MAX_SECONDS = 10 * 366 * 86400.0

#: Size of the first read of a file, and of each further one, bytes; most files are smaller than the first.
_FIRST_BYTES = 16 * 1024
_NEXT_BYTES = 1024 * 1024

#: A larger JSON file is not flowherd's; parameters are the largest part of one.
MAX_JSON_BYTES = 64 * 1024 * 1024


def open_regular(path: str, flags: int, mode: int = 0o600) -> int:
    """Open the regular file `path` and return its descriptor (open(2)), which is closed on exec.

    Follows no link in the last component, and does not open anything else that may have the file's name: a pipe would
    block its reader for ever. Raises OSError.
    """
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return fd


def write_json(directory: str, name: str, value: Dict[str, Any], sync: bool = True) -> None:
    """Write `value` under `name` so that a reader sees all of it or nothing, mode 0600.

    With `sync`, content and name are on the disk when this returns.

    Raises OSError when it cannot be written; a half-written temporary file is then removed.
    """
    _write_and_rename(directory, name, value, os.fsync if sync else None)
    if sync:
        sync_directory(directory)


def prepare_names(directory: str) -> None:
    """Make lock, journal and the files of `PREPARED_FILES`, these under the names under which they are written first.

    Once the names are on the disk (`sync_directory`), journal and records need one flush each: see `write_prepared`.
    Raises OSError.
    """
    paths = [_temporary(directory, name) for name in PREPARED_FILES]
    for path in (*paths, *(os.path.join(directory, name) for name in (LOCK_FILE, JOURNAL_FILE))):
        os.close(open_regular(path, os.O_WRONLY | os.O_CREAT))


def write_prepared(directory: str, name: str, value: Dict[str, Any]) -> bool:
    """Write `value` under `name` as `write_json` does, with one flush, if `prepare_names` has made the file for it.

    fdatasync(2) brings the content to the disk and not the rename(2). So after a power cut the record may be found
    under the name under which it was written first: `read_unnamed`. If that name was not there, it is made and flushed
    too, and False is returned: those of the directories above may not be on the disk.

    Raises OSError as `write_json` does.
    """
    was_prepared = os.path.lexists(_temporary(directory, name))
    _write_and_rename(directory, name, value, os.fdatasync)
    if not was_prepared:
        sync_directory(directory)
    return was_prepared


def read_unnamed(directory: str, name: str) -> Optional[Dict[str, Any]]:
    """Return the record that was written for `name` and has not got that name; None if there is no whole one."""
    try:
        return read_json(directory, os.path.basename(_temporary(directory, name)))
    except (OSError, ValueError):
        return None


def give_name(directory: str, name: str) -> None:
    """Give the record that `read_unnamed` returns its name, on the disk too. Raises OSError."""
    os.rename(_temporary(directory, name), os.path.join(directory, name))
    sync_directory(directory)


def reserve_json(directory: str, name: str, reserve: Callable[[int], None]) -> None:
    """Reserve space on the disk for a later `write_json` of the same name, so that it succeeds when the disk is full.

    `reserve` does that for the file behind a descriptor. Raises OSError when there is no space now.
    """
    fd = open_regular(_temporary(directory, name), os.O_WRONLY | os.O_CREAT)
    try:
        reserve(fd)
    finally:
        os.close(fd)


def _write_and_rename(directory: str, name: str, value: Dict[str, Any], flush: Optional[Callable[[int], None]]) -> None:
    """Write `value` under a temporary name, call `flush` with its descriptor, and give it its name."""
    temporary = _temporary(directory, name)
    data = _encoded(value)
    fd = open_regular(temporary, os.O_WRONLY | os.O_CREAT)
    try:
        try:
            if os.fstat(fd).st_size:  # O_TRUNC would give back what `reserve_json` has reserved, and wait for the disk
                os.ftruncate(fd, 0)
            _write_all(fd, data)
            if flush is not None:
                flush(fd)
        finally:
            os.close(fd)
        os.rename(temporary, os.path.join(directory, name))
    except OSError:
        os.unlink(temporary)
        raise


def _encoded(value: Dict[str, Any]) -> bytes:
    return json.dumps(dict(value, contract=CONTRACT_VERSION), ensure_ascii=False).encode("utf-8", "surrogatepass")


def _write_all(fd: int, data: bytes) -> None:
    written = 0
    while written < len(data):
        written += os.write(fd, data[written:])


def _temporary(directory: str, name: str) -> str:
    return os.path.join(directory, "." + name + ".new")


def sync_directory(directory: str) -> None:
    """Make the names in `directory` survive a power cut; fsync(2) of a file does not sync its name."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_json(directory: str, name: str) -> Optional[Dict[str, Any]]:
    """Return the object stored under `name`, or None when there is no such file.

    Raises ValueError when the file is not a JSON object of a contract version that is known here, OSError when it is
    not a regular file or cannot be read.
    """
    path = os.path.join(directory, name)
    data = read_content(path)
    return None if data is None else decode_content(data, path)


def read_content(path: str) -> Optional[bytes]:
    """Return the content of the regular file `path`, or None when there is none. Raises OSError.

    At most one byte more than `decode_content` takes.
    """
    try:
        fd = open_regular(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return read_all(fd, MAX_JSON_BYTES + 1)
    finally:
        os.close(fd)


def is_absent(path: str) -> bool:
    """Whether there is nothing at a path; False if that cannot be known."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def read_all(fd: int, most: int) -> bytes:
    """Return what is left to read, `most` bytes of it at most. Raises OSError.

    A file object would take more calls, and reserve memory for `most` bytes.
    """
    pieces: List[bytes] = []
    size = _FIRST_BYTES
    while most > 0:
        piece = os.read(fd, min(size, most))
        if not piece:
            break
        pieces.append(piece)
        most -= len(piece)
        size = _NEXT_BYTES
    return b"".join(pieces)


def decode_content(data: bytes, path: str) -> Dict[str, Any]:
    """Return the object that is the content of the file `path`; raises ValueError as `read_json` does."""
    if len(data) > MAX_JSON_BYTES:
        raise ValueError("{} is larger than {} bytes".format(path, MAX_JSON_BYTES))
    try:
        value = json.loads(data.decode("utf-8", "surrogatepass"))
    except RecursionError:
        raise ValueError("{} is nested too deeply".format(path)) from None
    if not isinstance(value, dict):
        raise ValueError("{} holds no JSON object".format(path))
    version = value.get("contract")
    if type(version) is not int or not 1 <= version <= CONTRACT_VERSION:
        raise ValueError(
            "{} is of contract version {!r}, this program knows 1 to {}".format(path, version, CONTRACT_VERSION)
        )
    return value
