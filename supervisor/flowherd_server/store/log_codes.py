"""The numbers by which the log's table stores levels and streams, and the SQL that turns them into names again."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from flowherd_runner.contract.journal import STREAM_NAMES

LEVELS = {"NOTSET": 0, "DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
LEVEL_NAMES = {number: name for name, number in LEVELS.items()}
_OTHER_NAMES = {"WARN": 30, "FATAL": 50}
#: Number of a line whose stream is not known.
NO_STREAM = 0
STREAMS = {name: number for number, name in STREAM_NAMES.items()}
#: {column of flow_run: lowest level of the lines that it counts}, the highest first.
LEVEL_COUNTERS = {"log_critical": 50, "log_error": 40, "log_warning": 30, "log_info": 20, "log_debug": 0}

#: Level from which on lines are in an index, and the counters of such lines.
LOWEST_SEVERE = LEVELS["WARNING"]
SEVERE_COUNTERS = [name for name, lowest in LEVEL_COUNTERS.items() if lowest >= LOWEST_SEVERE]


@lru_cache(maxsize=256)
def level_code(name: str) -> tuple[int, str | None]:
    """Return the number of a level, and its name if that does not follow from the number.

    A name that Python's logging does not know counts as INFO.
    """
    if name in LEVELS:
        return LEVELS[name], None
    number = name.removeprefix("Level ")  # as logging calls levels without a name
    if number != name and number.isascii() and number.isdigit() and len(number) < 4 and str(int(number)) == number:
        return int(number), None if int(number) not in LEVELS.values() else name
    return _OTHER_NAMES.get(name, LEVELS["INFO"]), name


@lru_cache(maxsize=256)
def counter_of(level: int) -> str:
    """Return the column of flow_run that counts lines of this level."""
    return next(column for column, lowest in LEVEL_COUNTERS.items() if level >= lowest)


def stream_code(name: object) -> int:
    """Return the number of a stream; NO_STREAM if it is not one of flowherd's."""
    return STREAMS.get(name, NO_STREAM) if isinstance(name, str) else NO_STREAM


def sql_names(column: str, codes: Mapping[str, int], otherwise: str = "NULL") -> str:
    """Return the SQL expression for the name of the number in `column`."""
    cases = " ".join(f"WHEN {number} THEN '{name}'" for name, number in codes.items())
    return f"CASE {column} {cases} ELSE {otherwise} END"
