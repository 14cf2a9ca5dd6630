"""The attempts of a flow run that flowherd's server tries again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flowherd.backends.graphql.literals import Word
from flowherd.backends.graphql.rows import parsed_time
from flowherd.backends.graphql.transport import FLOW_RULES, GraphQLTransport
from flowherd.backends.json_values import integer, integer_or_none, text, text_or_none
from flowherd.client.queries import is_flowherd_server, select

_FIELDS = (
    "number state message reason grade exit_code cpu_time peak_memory_bytes agent_id start_time end_time "
    "next_start_time journal"
)


@dataclass(frozen=True, kw_only=True)
class AttemptView:
    """An attempt that has ended."""

    number: int
    state: str
    message: str | None
    #: Why it ended, one of flowherd_runner.contract.reasons, and how certain that is.
    reason: str | None
    grade: str | None
    exit_code: int | None
    cpu_time_s: float | None
    peak_memory_bytes: int | None
    #: Id of the agent that had claimed it.
    agent_id: str | None
    start_time: datetime | None
    end_time: datetime | None
    #: When the next one was to start; None for the last one.
    next_start_time: datetime | None
    #: Number of the journal with its lines, or of an earlier one; None if there was none until its end.
    journal: int | None


@dataclass(frozen=True, kw_only=True)
class Attempts:
    """The attempts of one run."""

    ended: Sequence[AttemptView]
    #: Number of the latest one; 1 for a run that is never tried again.
    latest: int = 1

    def journals(self, number: int) -> tuple[int, int | None] | None:
        """Return the range of journals with the lines of an attempt: above the first, up to the second or the last.

        None if there is no such attempt.
        """
        if not 1 <= number <= self.latest:
            return None
        known = {each.number: each.journal or 0 for each in self.ended}
        before = max((journal for earlier, journal in known.items() if earlier < number), default=0)
        return before, known.get(number)


def attempts_of(transport: GraphQLTransport, run_id: str) -> Attempts:
    """Return the attempts of a run. Raises BackendUnavailable or BackendRefused."""
    if not (is_flowherd_server(transport) and FLOW_RULES in transport.server_extensions):
        return Attempts(ended=())
    where, order = {"flow_run_id": {"_eq": run_id}}, {"number": Word("asc")}
    ended = select(transport, "flow_run_attempt", _FIELDS, _attempt, where=where, order_by=order)
    latest = select(transport, "flow_run", "attempt", _latest, where={"id": {"_eq": run_id}}, limit=1)
    return Attempts(ended=ended, latest=latest[0] if latest else 1)


def _latest(row: Mapping[str, Any]) -> int:
    return integer_or_none(row["attempt"]) or 1


def _seconds(interval: str | None) -> float | None:
    """Return the seconds of HH:MM:SS.ffffff."""
    if interval is None:
        return None
    hours, minutes, seconds = interval.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _attempt(row: Mapping[str, Any]) -> AttemptView:
    return AttemptView(
        number=integer(row["number"]),
        state=text(row["state"]),
        message=text_or_none(row["message"]),
        reason=text_or_none(row["reason"]),
        grade=text_or_none(row["grade"]),
        exit_code=integer_or_none(row["exit_code"]),
        cpu_time_s=_seconds(text_or_none(row["cpu_time"])),
        peak_memory_bytes=integer_or_none(row["peak_memory_bytes"]),
        agent_id=text_or_none(row["agent_id"]),
        start_time=parsed_time(row["start_time"]),
        end_time=parsed_time(row["end_time"]),
        next_start_time=parsed_time(row["next_start_time"]),
        journal=integer_or_none(row["journal"]),
    )
