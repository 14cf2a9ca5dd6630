"""One run's directory: its lock and its files, read and written; concludes nothing from them.

What stands in a file is the matter of the modules beside this one (records, outbox, journal_end) and of the contract.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flowherd.errors import RunDirectoryDamaged
from flowherd.host.store.journal_end import journal_bytes
from flowherd.host.store.outbox import Outbox, outbox_from_json, outbox_to_json
from flowherd.host.store.own_directory import remove_own_directory
from flowherd.host.store.records import Started, started_from_json
from flowherd.host.store.remove_tree import Remains, remove_tree
from flowherd_runner.contract import faults, files, identity
from flowherd_runner.contract.spec import RunSpec, salvage_spec, spec_to_json

#: Part of the new name of a file that was set aside.
_SET_ASIDE = "set-aside"
_MAX_OFFSET_DIGITS = 20


class RunDirectory:
    """The files of one flow run."""

    def __init__(self, path: Path, flow_run_id: str) -> None:
        self.path = path
        self.flow_run_id = flow_run_id
        self.journal = path / files.JOURNAL_FILE
        self._journal_name = str(self.journal)
        self._forwarded: int | None = None

    # -- what may be in the directory

    def is_directory(self) -> bool:
        """Return whether it exists and is itself a directory: a link could lead out of the state directory."""
        try:
            return stat.S_ISDIR(self.path.lstat().st_mode)
        except OSError:
            return False

    def make_again(self) -> None:
        """Make the directory again if it was removed while its run was going, so that the end can be recorded."""
        with contextlib.suppress(FileExistsError):
            self.path.mkdir(mode=0o700, parents=True)

    def quarantine_foreign_files(self) -> list[str]:
        """Rename what has a name of the contract and is not a regular file, and return these names.

        Follows no link and removes nothing. Raises OSError when something cannot be renamed.
        """
        found: set[str] = set()
        with contextlib.suppress(FileNotFoundError), os.scandir(self.path) as entries:
            found.update(entry.name for entry in entries if not entry.is_file(follow_symlinks=False))
        names = [name for name in (files.LOCK_FILE, *files.CONTENT_FILES) if name in found]
        for name in names:
            self.set_aside(name)
        return names

    def set_aside(self, name: str) -> None:
        """Rename a file that cannot be used, and keep it for a person to look at. Raises OSError."""
        (self.path / name).rename(self.path / f"{name}.{_SET_ASIDE}-{time.time_ns()}")

    def had(self, name: str) -> bool:
        """Return whether anything exists, or was set aside, under `name`."""
        set_aside = f"{name}.{_SET_ASIDE}-"
        try:
            found = os.listdir(self.path)  # noqa: PTH208 - at the start and at the end of each run
        except OSError:
            return False
        return name in found or any(one.startswith(set_aside) for one in found)

    # -- before the start

    def create(self, spec: RunSpec, take_blank: Callable[[Path], bool] = lambda _path: False) -> int:
        """Make the directory with its spec, and return the descriptor that holds its lock.

        `take_blank` may move a prepared directory to its path. What an earlier start of the same flow run left there is
        removed first. Raises RunDirectoryDamaged when a runner has it, or when it is not a directory.

        The spec is on the disk when this returns: otherwise, after a power cut, the run would be claimed by an agent
        that knows nothing of it.
        """
        is_blank = take_blank(self.path)
        if not is_blank:
            with contextlib.suppress(FileExistsError):
                self.path.mkdir(mode=0o700)
        if not self.is_directory():
            raise RunDirectoryDamaged(f"{self.path} is not a directory that flowherd made; look at it and remove it")
        self.quarantine_foreign_files()
        self._forwarded = None
        lock_fd = self.try_lock()
        if lock_fd is None:
            raise RunDirectoryDamaged(f"a runner holds {self.path}")
        try:
            if not is_blank:
                self._clear()
                files.prepare_names(str(self.path))
            faults.point("before-intent")
            was_prepared = files.write_prepared(str(self.path), files.SPEC_FILE, spec_to_json(spec))
            if not (is_blank and was_prepared):
                files.sync_directory(str(self.path))
                files.sync_directory(str(self.path.parent))
        except OSError:
            self.remove()
            os.close(lock_fd)
            raise
        return lock_fd

    def start_again(self, spec: RunSpec) -> int:
        """Make the directory of an ended run ready for a second start, and return the descriptor that holds its lock.

        The journal, what the backend has of it, and the run's own end are kept. Raises OSError, and RunDirectoryDamaged
        when a runner has the directory.
        """
        lock_fd = self.try_lock()
        if lock_fd is None:
            raise RunDirectoryDamaged(f"a runner holds {self.path}")
        try:
            if (self.path / files.EXIT_FILE).exists():
                (self.path / files.EXIT_FILE).rename(self.path / files.FIRST_EXIT_FILE)
            files.prepare_names(str(self.path))
            # Without "started" and with a spec, the directory counts as one that is to be started.
            files.write_json(str(self.path), files.SPEC_FILE, spec_to_json(spec))
            for name in (files.STARTED_FILE, files.STOP_FILE, files.OUTBOX_FILE, files.AFTER_END_FILE):
                (self.path / name).unlink(missing_ok=True)
        except OSError:
            os.close(lock_fd)
            raise
        return lock_fd

    def restore_first_end(self) -> None:
        """Put the run's own end back in place of that of the second start. Raises OSError."""
        if (self.path / files.FIRST_EXIT_FILE).exists():
            (self.path / files.FIRST_EXIT_FILE).rename(self.path / files.EXIT_FILE)

    def try_lock(self) -> int | None:
        """Return a descriptor that holds the run's lock, or None while a runner, or who starts one, holds it."""
        fd = files.open_regular(str(self.path / files.LOCK_FILE), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd

    def lock_is_held(self) -> bool:
        """Return whether a runner lives."""
        fd = self.try_lock()
        if fd is None:
            return True
        os.close(fd)
        return False

    def complete_records(self) -> list[str]:
        """Name the records again whose rename(2) a power cut has undone; return their names. With the lock held.

        A `started` of this boot was written by a runner that ended before it renamed it, so no user code ran: it stays
        without a name. Raises OSError.
        """
        completed = []
        for name in files.PREPARED_FILES:
            record = None if self.had(name) else files.read_unnamed(str(self.path), name)
            if record is not None and self._is_record(name, record):
                files.give_name(str(self.path), name)
                completed.append(name)
        return completed

    def _is_record(self, name: str, record: Mapping[str, Any]) -> bool:
        if name == files.SPEC_FILE:
            return record.get("flow_run_id") == self.flow_run_id
        return name != files.STARTED_FILE or record.get("boot_id") != identity.boot_id()

    # -- what the runner wrote

    def spec(self) -> RunSpec:
        """Return what can be used of spec.json. Raises RunDirectoryDamaged when it is not there or not readable."""
        spec = self._read(files.SPEC_FILE)
        if spec is None:
            raise RunDirectoryDamaged(f"{self.path} has no {files.SPEC_FILE}")
        return salvage_spec(spec)

    def started(self) -> Started | None:
        """Return who the runner is, once it has written that. Raises RunDirectoryDamaged."""
        record = self._read(files.STARTED_FILE)
        if record is None:
            return None
        try:
            return started_from_json(record)
        except (KeyError, TypeError) as error:
            raise RunDirectoryDamaged(f"{self.path / files.STARTED_FILE} is damaged: {error}") from error

    def exit_record(self) -> dict[str, Any] | None:
        """Return exit.json, once the runner has written it. Raises RunDirectoryDamaged."""
        return self._read(files.EXIT_FILE)

    def after_end(self) -> tuple[str, ...]:
        """Return what the engine wants to be done after the end of a killed process; empty if it left no word."""
        wanted = self._read_or_nothing(files.AFTER_END_FILE).get("wanted")
        return tuple(name for name in wanted if isinstance(name, str)) if isinstance(wanted, list) else ()

    # -- what the agent writes

    def write_stop(self, reason: str, detail: str, grace_s: float) -> None:
        """Write why the run is to end, before the signal that asks for it."""
        stop = {"reason": reason, "detail": detail, "grace_s": grace_s}
        files.write_json(str(self.path), files.STOP_FILE, stop, sync=False)

    def forwarded(self) -> int:
        """Return the journal offset up to which the backend has the log."""
        if self._forwarded is None:
            self._forwarded = self._stored_forwarded()
        return self._forwarded

    def _stored_forwarded(self) -> int:
        try:
            with os.fdopen(files.open_regular(str(self.path / files.FORWARDED_FILE), os.O_RDONLY), "rb") as file:
                offset = int(file.read(_MAX_OFFSET_DIGITS))
        except (OSError, ValueError):  # never written, or damaged: the log is sent again from the beginning
            return 0
        return offset if 0 <= offset <= journal_bytes(self.journal) else 0

    def set_forwarded(self, offset: int, *, store: bool = True) -> None:
        """Store `offset`, by rename; only in memory without `store`, and if the disk refuses it.

        After a crash of the agent the lines are then sent again; servers that know line ids do not store them twice.
        """
        self._forwarded = offset
        if not store:
            return
        temporary = self.path / f".{files.FORWARDED_FILE}.new"
        with contextlib.suppress(OSError):
            fd = files.open_regular(str(temporary), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            with os.fdopen(fd, "wb") as file:
                file.write(str(offset).encode())
            temporary.rename(self.path / files.FORWARDED_FILE)

    def unsent_bytes(self) -> int:
        """Return how much of the journal the backend does not have yet, bytes."""
        try:
            size = os.lstat(self._journal_name).st_size
        except OSError:
            return 0
        return max(0, size - self.forwarded())

    def written_at(self) -> float | None:
        """Return when output was last added to the journal, seconds since the epoch; None without a journal."""
        try:
            return os.lstat(self._journal_name).st_mtime
        except OSError:
            return None

    def outbox(self) -> Outbox:
        """Return the reports that the backend has not acknowledged. Raises RunDirectoryDamaged."""
        record = self._read(files.OUTBOX_FILE)
        if record is None:
            return Outbox()
        try:
            return outbox_from_json(record, self.flow_run_id)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise RunDirectoryDamaged(f"{self.path / files.OUTBOX_FILE} is damaged: {error}") from error

    def write_outbox(self, outbox: Outbox, *, sync: bool = True) -> None:
        """Store the outbox. Raises OSError."""
        files.write_json(str(self.path), files.OUTBOX_FILE, outbox_to_json(outbox), sync)

    def ended_at(self) -> float:
        """Return when the run's end was written down (seconds since the epoch); 0.0 if it was not."""
        with contextlib.suppress(OSError):
            return (self.path / files.OUTBOX_FILE).lstat().st_mtime
        return 0.0

    def give_back_space(self) -> None:
        """Give back what was reserved on the disk for a longer exit record than there is."""
        with contextlib.suppress(OSError):
            fd = files.open_regular(str(self.path / files.EXIT_FILE), os.O_RDWR)
            try:
                os.ftruncate(fd, os.fstat(fd).st_size)
            finally:
                os.close(fd)

    def remove(self) -> Remains | None:
        """Remove the whole directory. Return None if it is gone, else what is left and why.

        The spec goes first, so a half-removed directory counts as abandoned.
        """
        if not self.is_directory():
            return None
        remains = self._remove_own_directory()
        if remains is not None:  # the spec stays, because it names what is to be tried again
            return remains
        self._disown()
        faults.point("during-remove")
        return remove_tree(self.path)

    def remove_private(self) -> Remains | None:
        """Remove what the run had in a /tmp and /var/tmp of its own. Return as `remove` does."""
        return remove_tree(self.path / files.PRIVATE_DIRECTORY) if self.has_private() else None

    def has_private(self) -> bool:
        """Return whether there is anything for `remove_private`."""
        return os.path.lexists(self.path / files.PRIVATE_DIRECTORY)

    def is_abandoned(self) -> bool:
        """Return whether there is no spec: not written yet, or half removed. Other files mean nothing then."""
        return not self.had(files.SPEC_FILE)

    def _remove_own_directory(self) -> Remains | None:
        """Remove the working directory that the spec names outside of this one, if there is one."""
        return remove_own_directory(self._read_or_nothing(files.SPEC_FILE).get("own_dir"), self.flow_run_id)

    def _disown(self) -> None:
        with contextlib.suppress(OSError):
            (self.path / files.SPEC_FILE).unlink()

    def _clear(self) -> None:
        self._remove_own_directory()
        self._disown()
        for entry in self.path.iterdir():
            if entry.name == files.LOCK_FILE:
                continue
            if not entry.is_dir() or entry.is_symlink():
                entry.unlink()
            elif remove_tree(entry) is not None:  # the new start must not find what the earlier one left
                entry.rename(self.path / f"{entry.name}.{_SET_ASIDE}-{time.time_ns()}")

    def _read_or_nothing(self, name: str) -> dict[str, Any]:
        try:
            return self._read(name) or {}
        except RunDirectoryDamaged:
            return {}

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            return files.read_json(str(self.path), name)
        except (ValueError, OSError) as error:
            raise RunDirectoryDamaged(f"{self.path / name} cannot be read: {error}") from error
