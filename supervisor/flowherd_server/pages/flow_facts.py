"""What the page of a flow tells beside its runs: versions, durations, what was set, next times, clock changes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from sqlalchemy import Connection, func, select

from flowherd.flow_description import description
from flowherd.flow_rules import RULES_KEY
from flowherd.schedules.cron_fields import ScheduleError
from flowherd.schedules.in_words import clocks_of, zones_of
from flowherd.schedules.own_clock import zone_named
from flowherd.states import FINISHED, SUCCESSFUL, RunState
from flowherd.story.usual import LOOKED_AT, usual_s
from flowherd.web.shown_values import shown_value
from flowherd_server.errors import Refused
from flowherd_server.schedules.schedule import next_firings
from flowherd_server.store.microseconds import SECOND_US, to_datetime
from flowherd_server.store.plain import plain
from flowherd_server.store.run_counts import RUN_COUNT
from flowherd_server.store.tables import FLOW, FLOW_RUN

#: Maximum number of versions that are listed, and of runs whose durations are drawn.
_MOST_VERSIONS, _MOST_DRAWN = 10, 500
_GOOD = sorted(SUCCESSFUL - {RunState.SKIPPED})
#: Number of next times, and how far a change of the clock may be away.
NEXT_TIMES = 5
_CHANGE_WITHIN = timedelta(days=366)
_DAY = timedelta(days=1)
_PEAKS = """
SELECT r.id, max(coalesce(
    json_extract(a.account, '$.peak_memory_bytes'),
    json_extract(r.serialized_state, '$.context.flowherd.figures.peak_memory_bytes')))
FROM flow_run r LEFT JOIN run_account a ON a.run = r.seq
WHERE r.id IN (SELECT value FROM json_each(?)) GROUP BY r.id
"""
#: How the keys of a project file are called here.
_WORDS = {
    "memory": "Memory",
    "timeout": "Time",
    "cpu_time": "CPU time",
    "processes": "Processes",
    "open_files": "Open files",
    "cpu": "Cores",
    "nice": "Nice value",
    "io": "Class of I/O",
    "oom_score_adj": "Added to its OOM score",
    "grace": "Time to end",
    "user": "Runs as",
    "isolation": "Isolation",
    "network": "Network",
    "if_missing": "If isolation is missing",
    "write": "May change",
    "hide": "Does not see",
    "working_dir": "Directory",
    "interpreter": "Interpreter",
    "preload": "Preload",
    "env_files": "Files with variables",
    "log_level": "Log level",
    "overlap": "If one is running",
    "catch_up": "Missed runs",
    "max_running": "At once, at most",
    "retries": "Tried again",
    "retry_delay": "After",
    "retry_backoff": "Each time longer by",
    "retry_on": "Tried again on",
}


@dataclass(frozen=True)
class Version:
    """One version of a flow."""

    number: int
    registered: datetime
    #: What it runs: the reference to its code, or its command.
    code: str
    is_used: bool
    runs: int
    #: Share of its ended runs that went well; None if none has ended.
    good: float | None
    usual_s: float | None


@dataclass(frozen=True)
class Fact:
    """Something that was set at a flow's registration, beside what its runs needed."""

    word: str
    value: str
    needed: str = ""


def code_of(storage: Mapping[str, Any] | None) -> str:
    """Return what a flow runs, in a line."""
    storage = storage or {}
    if storage.get("type") == "Command":
        argv = storage.get("argv")
        return " ".join(map(str, argv)) if isinstance(argv, list) else ""
    return str(storage.get("ref") or storage.get("path") or storage.get("type") or "")


def versions_of(connection: Connection, group: str) -> tuple[list[Version], int]:
    """Return the newest versions of a flow, and the number of those that are not among them."""
    query = select(FLOW.c.id, FLOW.c.version, FLOW.c.created, FLOW.c.storage, FLOW.c.archived)
    rows = connection.execute(query.where(FLOW.c.flow_group_id == group).order_by(FLOW.c.version.desc())).all()
    counts = select(RUN_COUNT.c.flow_id, RUN_COUNT.c.state, RUN_COUNT.c.runs)
    shown = rows[:_MOST_VERSIONS]
    by_state: dict[str, dict[str, int]] = {}
    for flow_id, state, runs in connection.execute(counts.where(RUN_COUNT.c.flow_id.in_([row.id for row in shown]))):
        by_state.setdefault(flow_id, {})[state] = runs
    found = [
        Version(
            row.version,
            to_datetime(row.created),
            code_of(row.storage),
            not row.archived,
            sum(by_state.get(row.id, {}).values()),
            _good_share(by_state.get(row.id, {})),
            _usual_of_version(connection, row.id),
        )
        for row in shown
    ]
    return found, len(rows) - len(shown)


def _good_share(runs: Mapping[str, int]) -> float | None:
    ended = sum(number for state, number in runs.items() if state in FINISHED)
    return sum(number for state, number in runs.items() if state in SUCCESSFUL) / ended if ended else None


def _usual_of_version(connection: Connection, flow_id: str) -> float | None:
    newest = select(FLOW_RUN.c.state, FLOW_RUN.c.duration).where(FLOW_RUN.c.flow_id == flow_id)
    rows = connection.execute(newest.order_by(FLOW_RUN.c.start_time.desc()).limit(2 * LOOKED_AT))
    return usual_s([row.duration / SECOND_US for row in rows if row.state in _GOOD and row.duration is not None])


def number_of_runs(connection: Connection, group: str) -> int:
    """Return how many runs all versions of a flow have."""
    query = select(func.sum(RUN_COUNT.c.runs)).join(FLOW, FLOW.c.id == RUN_COUNT.c.flow_id)
    return int(connection.execute(query.where(FLOW.c.flow_group_id == group)).scalar() or 0)


def ended_since(connection: Connection, group: str, since_us: int) -> list[tuple[int, int, str]]:
    """Return start, end (microseconds since the epoch) and state of the newest runs that have ended, oldest first."""
    found = []
    for flow_id in connection.execute(select(FLOW.c.id).where(FLOW.c.flow_group_id == group)).scalars().all():
        query = select(FLOW_RUN.c.start_time, FLOW_RUN.c.end_time, FLOW_RUN.c.state).where(
            FLOW_RUN.c.flow_id == flow_id, FLOW_RUN.c.start_time >= since_us
        )
        rows = connection.execute(query.order_by(FLOW_RUN.c.start_time.desc()).limit(_MOST_DRAWN))
        found += [tuple(row) for row in rows if row.end_time is not None]
    return sorted(found)[-_MOST_DRAWN:]


def peaks_of(connection: Connection, run_ids: Sequence[str]) -> dict[str, int]:
    """Return the highest memory of runs that have ended, bytes, by their ids; of those of which it is known."""
    found = plain(connection).execute(_PEAKS, (json.dumps(run_ids),))
    return {run_id: peak for run_id, peak in found if isinstance(peak, int) and peak > 0}


def facts_of(flow: Mapping[str, Any], longest_s: str, peak: str) -> list[Fact]:
    """Return what was set at the registration. `longest_s` and `peak` say what the last runs needed; may be empty."""
    document = {"run_config": flow["run_config"], RULES_KEY: (flow["settings"] or {}).get(RULES_KEY)}
    set_values = description(document)
    needed = {"memory": f"peak {peak}" if peak else "", "timeout": f"longest {longest_s}" if longest_s else ""}
    facts = [
        Fact(word, _written(set_values[key]), needed.get(key, "")) for key, word in _WORDS.items() if key in set_values
    ]
    names = sorted(key.partition(".")[2] for key in set_values if key.startswith(("env.", "secrets.")))
    return facts + ([Fact("Variables", ", ".join(names))] if names else [])


def _written(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def next_times(schedule: Mapping[str, Any], now_us: int) -> tuple[list[datetime], str]:
    """Return when a schedule fires next, and why it cannot be followed if that is so."""
    try:
        return [to_datetime(firing.at_us) for firing in next_firings(schedule, now_us, NEXT_TIMES)], ""
    except Refused as refusal:
        return [], str(refusal)


def schedule_parameters(schedule: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the parameters that the clocks of a schedule give their runs."""
    found = [clock.get("parameter_defaults") for clock in clocks_of(schedule)]
    return list(
        dict.fromkeys(
            (name, shown_value(name, value)[0])
            for each in found
            if isinstance(each, dict)
            for name, value in each.items()
        )
    )


def clock_change(schedule: Mapping[str, Any], now: datetime) -> str:
    """Return a sentence about the next change of the clock in the schedule's zone; empty if none is near."""
    zones = zones_of(schedule)
    if len(zones) != 1:
        return ""
    try:
        zone = zone_named(zones[0])
    except ScheduleError:  # this host does not know it
        return ""
    at = now.astimezone(zone)
    offset = at.utcoffset()
    low = now
    while low - now < _CHANGE_WITHIN and (low + _DAY).astimezone(zone).utcoffset() == offset:
        low += _DAY
    if low - now >= _CHANGE_WITHIN:
        return ""
    high = low + _DAY
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        low, high = (middle, high) if middle.astimezone(zone).utcoffset() == offset else (low, middle)
    before, after = low.astimezone(zone).utcoffset(), high.astimezone(zone).utcoffset()
    shown = (high.astimezone(timezone.utc) + (before or timedelta())).replace(microsecond=0)
    minutes = abs((after or timedelta()) - (before or timedelta())) // timedelta(minutes=1)
    length = f"{minutes // 60} h" if minutes % 60 == 0 else f"{minutes} m"
    way = "forward" if (after or timedelta()) > (before or timedelta()) else "back"
    return f"On {shown.day} {shown:%B %Y} at {shown:%H:%M} the clock is put {way} by {length}."
