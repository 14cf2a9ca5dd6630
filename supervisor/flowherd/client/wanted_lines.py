"""Which lines of a log are wanted: what a server is asked for, and what is left out of its answer."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

#: Numbers of the levels of a log, by their names.
LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
#: Streams of a run's log; "log" is what came through logging, "flowherd" are flowherd's own lines.
STREAMS = ("stdout", "stderr", "log", "flowherd")
#: Level of a line whose level is none of logging's, as flowherd's server counts it.
_UNKNOWN = LEVELS["INFO"]


class _Line(Protocol):
    """What is looked at of a line."""

    @property
    def at(self) -> datetime: ...

    @property
    def stream(self) -> str: ...

    @property
    def level(self) -> str: ...

    @property
    def logger(self) -> str: ...

    @property
    def message(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class WantedLines:
    """The lines that are wanted; without arguments all are.

    `since` and `until` are inclusive. `level` is the name of the lowest level. `errors` are the lines on stderr and
    those of level ERROR and higher. `pattern` is searched in the message, after the logger's name for a record of
    logging.
    """

    since: datetime | None = None
    until: datetime | None = None
    level: str | None = None
    streams: Collection[str] | None = None
    errors: bool = False
    pattern: re.Pattern[str] | None = None
    #: Journals of the run, above the first number and up to the second, if there is one; only at flowherd's server.
    journals: tuple[int, int | None] | None = None

    @property
    def are_all(self) -> bool:
        """Whether no line is left out."""
        return self == _ALL

    def include(self, line: _Line) -> bool:
        """Return whether a line is among them."""
        return (
            (self.since is None or line.at >= self.since)
            and (self.until is None or line.at <= self.until)
            and (self.level is None or level_number(line.level) >= LEVELS[self.level])
            and (self.streams is None or line.stream in self.streams)
            and (not self.errors or line.stream == "stderr" or level_number(line.level) >= LEVELS["ERROR"])
            and (self.pattern is None or self.pattern.search(_text(line)) is not None)
        )

    def conditions(self) -> dict[str, Any]:
        """Return what a server is asked for besides the times; its answer may have lines that are not wanted."""
        where: dict[str, Any] = {}
        if self.level is not None and (below := _below(self.level)):
            where["level"] = {"_nin": below}
        if self.streams is not None and "log" not in self.streams:
            where["name"] = {"_in": sorted(self.streams)}
        if self.journals is not None:
            above, up_to = self.journals
            where["journal"] = {"_gt": above} if up_to is None else {"_gt": above, "_lte": up_to}
        if self.errors:
            where["_or"] = [{"name": {"_eq": "stderr"}}, {"level": {"_nin": _below("ERROR")}}]
        return where


_ALL = WantedLines()


def level_number(name: str) -> int:
    """Return the number of a level of logging, also of "Level 35"; INFO's for a name that logging does not know."""
    number = name.removeprefix("Level ")
    return int(number) if number.isascii() and number.isdigit() else LEVELS.get(name, _UNKNOWN)


def _below(level: str) -> list[str]:
    # Names of other levels may be above it, so they are asked for.
    return [name for name, number in LEVELS.items() if number < LEVELS[level]]


def _text(line: _Line) -> str:
    return f"{line.logger}: {line.message}" if line.stream == "log" else line.message
