"""The numbers by which the log's table stores levels and streams, and the SQL that turns them into names again."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from flowherd_runner.contract.journal import STREAM_NAMES

LEVELS = {"NOTSET": 0, "DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
_OTHER_NAMES = {"WARN": 30, "FATAL": 50}
#: Number of a line whose stream is not known.
NO_STREAM = 0
STREAMS = {name: number for number, name in STREAM_NAMES.items()}
#: {column of flow_run: lowest level of the lines that it counts}, the highest first.
LEVEL_COUNTERS = {"log_critical": 50, "log_error": 40, "log_warning": 30, "log_info": 20, "log_debug": 0}


class LevelCode(NamedTuple):
    """How the level of a line is stored."""

    number: int
    #: The level's name, if it does not follow from the number.
    name: str | None
    #: Column of flow_run that counts lines of this level.
    counter: str


@lru_cache(maxsize=256)
def level_code(name: str) -> LevelCode:
    """Return how a level is stored. A name that Python's logging does not know counts as INFO."""
    number, kept = _number_and_name(name)
    return LevelCode(number, kept, next(column for column, lowest in LEVEL_COUNTERS.items() if number >= lowest))


def _number_and_name(name: str) -> tuple[int, str | None]:
    if name in LEVELS:
        return LEVELS[name], None
    number = name.removeprefix("Level ")  # as logging calls levels without a name
    if number != name and number.isascii() and number.isdigit() and len(number) < 4 and str(int(number)) == number:
        return int(number), None if int(number) not in LEVELS.values() else name
    return _OTHER_NAMES.get(name, LEVELS["INFO"]), name


def stream_code(name: object) -> int:
    """Return the number of a stream; NO_STREAM if it is not one of flowherd's."""
    return STREAMS.get(name, NO_STREAM) if isinstance(name, str) else NO_STREAM


def sql_names(column: str, codes: Mapping[str, int], otherwise: str = "NULL") -> str:
    """Return the SQL expression for the name of the number in `column`."""
    cases = " ".join(f"WHEN {number} THEN '{name}'" for name, number in codes.items())
    return f"CASE {column} {cases} ELSE {otherwise} END"
