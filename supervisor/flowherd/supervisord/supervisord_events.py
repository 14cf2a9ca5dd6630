"""The protocol between supervisord and an event listener, and the events that wait in the listener.

Source: http://supervisord.org/events.html and EventListenerPool in supervisor/process.py.
"""

from __future__ import annotations

import collections
import threading
import time
from dataclasses import dataclass, field
from typing import IO

#: Maximum size of an event, characters; those of process states have some hundred.
_MOST_CHARACTERS = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event of supervisord."""

    name: str
    #: Number among all events of this supervisord, and among those for this listener.
    serial: int
    pool_serial: int
    #: The words of its text.
    words: dict[str, str]
    #: When it arrived, seconds since the epoch.
    at: float = field(default_factory=time.time)

    @property
    def process(self) -> str:
        """Name of the process without its group."""
        return self.words.get("processname", "")

    @property
    def program(self) -> str:
        """Name as supervisorctl shows it."""
        group = self.words.get("groupname", "")
        return self.process if group in ("", self.process) else f"{group}:{self.process}"

    @property
    def pid(self) -> int | None:
        """Pid of the process, of most events."""
        pid = self.words.get("pid", "")
        return int(pid) if pid.isdigit() and int(pid) else None

    @property
    def expected(self) -> bool | None:
        """Whether an exit was expected."""
        word = self.words.get("expected")
        return None if word is None else word == "1"


def read_event(requests: IO[str]) -> Event | None:
    """Wait for the next event; None if supervisord has gone. Raises ValueError for what is no event."""
    line = requests.readline()
    if not line:
        return None
    header = _words(line)
    try:
        length = int(header["len"])
        serial, pool_serial, name = int(header["serial"]), int(header["poolserial"]), header["eventname"]
    except KeyError as error:
        raise ValueError(f"the header of an event has no {error}: {line!r:.200}") from error
    if not 0 <= length <= _MOST_CHARACTERS:
        raise ValueError(f"an event cannot have {length} characters")
    text = requests.read(length)
    if len(text) < length:
        return None
    return Event(name=name, serial=serial, pool_serial=pool_serial, words=_words(text.partition("\n")[0]))


def ready(answers: IO[str]) -> None:
    """Ask for an event."""
    answers.write("READY\n")
    answers.flush()


def taken(answers: IO[str]) -> None:
    """Say that the event was taken."""
    answers.write("RESULT 2\nOK")
    answers.flush()


def _words(line: str) -> dict[str, str]:
    return {name: value for word in line.split() for name, _, value in [word.partition(":")]}


class Inbox:
    """Events that were taken and are not logged yet: the newest ones, if there are too many. For two threads."""

    def __init__(self, most: int) -> None:
        self._events: collections.deque[Event] = collections.deque(maxlen=most)
        self._changed = threading.Condition()
        self._is_closed = False

    def add(self, event: Event) -> None:
        """Add an event; the oldest one is dropped if there is no room. Its number is missing then in what is taken."""
        with self._changed:
            self._events.append(event)
            self._changed.notify()

    def take(self) -> Event | None:
        """Wait for the oldest event; None once the inbox is closed and empty."""
        with self._changed:
            while not self._events and not self._is_closed:
                self._changed.wait()
            return self._events.popleft() if self._events else None

    def close(self) -> None:
        """Say that no more events will come."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()


class Losses:
    """Counts the events that are missing between those that were seen, by their numbers."""

    def __init__(self, last: int | None) -> None:
        """Go on after the event with the number `last`; None if it is the first one that matters."""
        self.last = last

    def before(self, pool_serial: int) -> int:
        """Return how many events are missing before this one.

        Numbers begin anew with supervisord; an event is sent again if the listener died with it.
        """
        last, self.last = self.last, pool_serial
        return 0 if last is None or pool_serial <= last else pool_serial - last - 1
