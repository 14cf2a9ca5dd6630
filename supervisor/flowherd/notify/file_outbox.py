"""An outbox of files, for an agent: one file for each notification and channel, below the state directory.

A file appears whole and is on the disk before `add` returns. Its name begins with the time, so that the order of names
is the order of time.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from flowherd.notify.delivery import Waiting
from flowherd.notify.message import MOST_TOGETHER, Notification, as_stored, read_stored

#: Directory of the outbox in an agent's state directory.
DIRECTORY = "notifications"
_SUFFIX = ".json"
#: Number of notifications that are kept although they were given up.
_MOST_GIVEN_UP = 100
#: Most notifications that wait. A host whose channels have not worked for so long has lost the newest ones.
_MOST_WAITING = 10_000


@dataclass(frozen=True, kw_only=True)
class Kept:
    """An entry as it is in its file."""

    channel: str
    waiting: Waiting
    #: Why the last delivery failed.
    error: str = ""
    #: Whether it was given up.
    is_over: bool = False


class FileOutbox:
    """The outbox in one directory. It is used by one process at a time; its methods by any thread.

    Every method raises OSError if the directory cannot be read or written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in directory.glob("*.new"):
            path.unlink()
        self._entries = {str(kept.waiting.key): kept for kept in read_entries(directory)}
        self._sent: dict[str, list[float]] = {}

    def add(self, notification: Notification, channels: Sequence[str]) -> None:
        """Have a notification delivered to these channels."""
        with self._lock:
            if len(self._entries) >= _MOST_WAITING:
                raise OSError(f"{self._directory} has {_MOST_WAITING} notifications already")
            for channel in channels:
                key = f"{time.time_ns():020d}-{uuid4().hex[:8]}"
                self._write(Kept(channel=channel, waiting=Waiting(key=key, notification=notification)))
            if channels:
                self._sync()

    def waiting(self, channel: str) -> Sequence[Waiting]:
        with self._lock:
            found = [each for each in self._of(channel) if not each.is_over]
        return [each.waiting for each in found[: MOST_TOGETHER + 1]]

    def sent_since(self, channel: str, since: float) -> Sequence[float]:
        with self._lock:
            self._sent[channel] = [at for at in self._sent.get(channel, ()) if at >= since]
            return list(self._sent[channel])

    def delivered(self, channel: str, entries: Sequence[Waiting], at: float) -> None:
        with self._lock:
            self._sent.setdefault(channel, []).append(at)
            for entry in entries:
                self._remove(str(entry.key))
            self._sync()

    def failed(self, channel: str, entries: Sequence[Waiting], error: str, next_try: float | None) -> None:
        with self._lock:
            for entry in entries:
                again = replace(entry, failures=entry.failures + 1, next_try=next_try or 0.0)
                self._write(Kept(channel=channel, waiting=again, error=error, is_over=next_try is None))
            given_up = [each for each in self._entries.values() if each.is_over]
            for each in given_up[:-_MOST_GIVEN_UP]:
                self._remove(str(each.waiting.key))
            self._sync()

    def _of(self, channel: str) -> list[Kept]:
        return [each for _, each in sorted(self._entries.items()) if each.channel == channel]

    def _write(self, kept: Kept) -> None:
        key = str(kept.waiting.key)
        new = self._directory / f"{key}.new"
        with new.open("wb") as file:
            file.write(json.dumps(_stored(kept)).encode())
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._directory / (key + _SUFFIX))
        self._entries[key] = kept

    def _remove(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self._directory / (key + _SUFFIX)).unlink()
        self._entries.pop(key, None)

    def _sync(self) -> None:
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def read_entries(directory: Path) -> Iterator[Kept]:
    """Return what an outbox holds, oldest first. Files that cannot be understood are left out. Raises OSError."""
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        try:
            yield _kept(path.stem, json.loads(path.read_bytes()))
        except FileNotFoundError:
            continue  # it was delivered meanwhile
        except (ValueError, TypeError, KeyError):
            continue


def _stored(kept: Kept) -> dict[str, Any]:
    return {
        "channel": kept.channel,
        "failures": kept.waiting.failures,
        "next_try": kept.waiting.next_try,
        "error": kept.error,
        "over": kept.is_over,
        "notification": as_stored(kept.waiting.notification),
    }


def _kept(key: str, value: Mapping[str, Any]) -> Kept:
    return Kept(
        channel=str(value["channel"]),
        waiting=Waiting(
            key=key,
            notification=read_stored(value["notification"]),
            failures=int(value["failures"]),
            next_try=float(value["next_try"]),
        ),
        error=str(value["error"]),
        is_over=bool(value["over"]),
    )
