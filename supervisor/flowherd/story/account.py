"""What the end of a run carries beside its state: evidence, figures, dated events, a thinned curve, the last processes.

The agent makes it, sends it with the report of the end to flowherd's own server, and keeps it in the run's directory.
It is JSON of MOST_BYTES at most. What a reader does not know, or cannot read, it leaves out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, TypeVar

from flowherd.shown_text import storable
from flowherd.story.live import ProcessFigures, Sample

#: Largest account, bytes of UTF-8.
MOST_BYTES = 8192
#: Most samples of the curve, events, processes, and names of leftovers.
MOST_SAMPLES, MOST_EVENTS, MOST_PROCESSES, MOST_NAMES = 240, 40, 40, 20
#: Longest texts, characters.
_MOST_EVIDENCE, _MOST_DETAIL, _MOST_COMMAND, _MOST_NAME = 1000, 1000, 120, 80
#: Counts from here on are damage, and so are times: this one is in the year 9999.
_MOST_NUMBER = 2.0**63
_END_S = 253_370_764_800.0

_Item = TypeVar("_Item")


@dataclass(frozen=True, kw_only=True)
class RunEvent:
    """Something that happened to a run on its host."""

    #: Seconds since the epoch.
    at_s: float
    #: One word or few, for programs too: see EVENTS.
    what: str
    detail: str = ""

    @property
    def at(self) -> datetime:
        """The time."""
        return datetime.fromtimestamp(self.at_s, timezone.utc)


#: Words for events, in the order in which they usually happen.
STARTED, KEPT_APART, ADOPTED, NEAR_LIMIT, ASKED_TO_END, KILLED, ENDED = (
    "started",
    "isolation",
    "adopted",
    "near its limit",
    "asked to end",
    "killed",
    "process ended",
)
EVENTS = (STARTED, KEPT_APART, ADOPTED, NEAR_LIMIT, ASKED_TO_END, KILLED, ENDED)


@dataclass(frozen=True, kw_only=True)
class Account:
    """What is known of a run that has ended; None or empty for what is not."""

    evidence: str = ""
    exit_code: int | None = None
    #: Number of the signal that ended the flow process.
    signal: int | None = None
    cpu_time_s: float | None = None
    peak_memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    #: Processes that outlived the flow process and were ended, as "name (pid)", and the number of all.
    leftovers: tuple[str, ...] = ()
    leftovers_count: int = 0
    #: Processes that could not be ended.
    survivors: tuple[str, ...] = ()
    events: tuple[RunEvent, ...] = ()
    samples: tuple[Sample, ...] = ()
    #: Its processes when it was last seen alive, parents before their children, and when that was; of a bad end only.
    processes: tuple[ProcessFigures, ...] = ()
    processes_at_s: float | None = None


def account_as_json(account: Account) -> dict[str, Any]:
    """Return the account as it is sent and stored, with what is not known left out; MOST_BYTES at most.

    If it is too large, every second sample is left out until it fits, then processes, then the oldest events.
    """
    account = replace(
        account,
        samples=thinned(account.samples, MOST_SAMPLES),
        processes=account.processes[:MOST_PROCESSES],
        events=account.events[-MOST_EVENTS:],
    )
    while True:
        value = _as_json(account)
        if len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()) <= MOST_BYTES:
            return value
        if len(account.samples) > MOST_SAMPLES // 4:
            account = replace(account, samples=thinned(account.samples, len(account.samples) // 2))
        elif account.processes:
            account = replace(account, processes=account.processes[: len(account.processes) // 2])
        elif account.samples:
            account = replace(account, samples=thinned(account.samples, len(account.samples) // 2))
        elif account.events:
            account = replace(account, events=account.events[1:])
        else:
            account = replace(account, evidence=account.evidence[:100], leftovers=(), survivors=())


def read_account(value: Any) -> Account | None:
    """Return the account in a value that was sent or stored; None if it is none. What cannot be read is left out."""
    if not isinstance(value, Mapping):
        return None
    curve = value.get("samples")
    start_s = read_moment(curve.get("start")) if isinstance(curve, Mapping) else None
    rows = curve.get("rows") if isinstance(curve, Mapping) and start_s is not None else None
    return Account(
        evidence=_text(value.get("evidence"), _MOST_EVIDENCE),
        exit_code=_count(value.get("exit_code")),
        signal=_count(value.get("signal")),
        cpu_time_s=read_number(value.get("cpu_time_s")),
        peak_memory_bytes=_count(value.get("peak_memory_bytes")),
        memory_limit_bytes=_count(value.get("memory_limit_bytes")),
        leftovers=_names(value.get("leftovers")),
        leftovers_count=_count(value.get("leftovers_count")) or len(_names(value.get("leftovers"))),
        survivors=_names(value.get("survivors")),
        events=_each(value.get("events"), _event, MOST_EVENTS),
        samples=_each(rows, lambda row: _sample(row, start_s or 0.0), MOST_SAMPLES),
        processes=_each(value.get("processes"), _process, MOST_PROCESSES),
        processes_at_s=read_moment(value.get("processes_at_s")),
    )


def thinned(items: Sequence[_Item], most: int) -> tuple[_Item, ...]:
    """Return at most so many items, evenly spread, with the first and the last."""
    if len(items) <= most:
        return tuple(items)
    if most < 2:
        return tuple(items[-most:]) if most else ()
    step = (len(items) - 1) / (most - 1)
    return tuple(items[round(n * step)] for n in range(most))


def _as_json(account: Account) -> dict[str, Any]:
    whole = {
        "evidence": storable(account.evidence[:_MOST_EVIDENCE]),
        "exit_code": account.exit_code,
        "signal": account.signal,
        "cpu_time_s": None if account.cpu_time_s is None else round(account.cpu_time_s, 2),
        "peak_memory_bytes": account.peak_memory_bytes,
        "memory_limit_bytes": account.memory_limit_bytes,
        "leftovers": [storable(name[:_MOST_NAME]) for name in account.leftovers[:MOST_NAMES]],
        "leftovers_count": account.leftovers_count or None,
        "survivors": [storable(name[:_MOST_NAME]) for name in account.survivors[:MOST_NAMES]],
        "events": [_event_row(event) for event in account.events],
        "samples": _curve(account.samples),
        "processes": [_process_row(process) for process in account.processes],
        "processes_at_s": None if account.processes_at_s is None else round(account.processes_at_s, 3),
    }
    return {name: value for name, value in whole.items() if value not in (None, "", [], {})}


def _event_row(event: RunEvent) -> list[Any]:
    return [round(event.at_s, 6), storable(event.what[:_MOST_NAME]), storable(_shortened(event.detail, _MOST_DETAIL))]


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _curve(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the samples as rows of seconds since the first, KiB and percent."""
    if not samples:
        return {}
    start_s = round(samples[0].at, 1)
    rows = [[round(each.at - start_s, 1), _kibibytes(each.memory_bytes), _percent(each.cpu_share)] for each in samples]
    return {"start": start_s, "rows": rows}


def _process_row(process: ProcessFigures) -> list[Any]:
    cpu_time_s = None if process.cpu_time_s is None else round(process.cpu_time_s, 1)
    kibibytes = _kibibytes(process.memory_bytes)
    command = storable(process.command[:_MOST_COMMAND])
    return [process.pid, process.parent, command, cpu_time_s, kibibytes, process.since]


def _kibibytes(count: int | None) -> int | None:
    return None if count is None else count // 1024


def _percent(share: float | None) -> int | None:
    return None if share is None else round(100 * share)


def _event(row: Any) -> RunEvent:
    at_s, what, detail = row
    return RunEvent(at_s=_time(at_s), what=_text(what, _MOST_NAME), detail=_text(detail, _MOST_DETAIL))


def _sample(row: Any, start_s: float) -> Sample:
    since_s, kibibytes, percent = row
    share = read_number(percent)
    return Sample(_time(start_s + since_s), _bytes(kibibytes), None if share is None else share / 100)


def _process(row: Any) -> ProcessFigures:
    pid, parent, command, cpu_time_s, kibibytes, since = row
    if _count(pid) is None:
        raise ValueError(f"not a pid: {pid!r:.50}")
    return ProcessFigures(
        pid=pid,
        parent=_count(parent),
        command=_text(command, _MOST_COMMAND),
        cpu_time_s=read_number(cpu_time_s),
        memory_bytes=_bytes(kibibytes),
        since=read_number(since),
    )


def _bytes(kibibytes: Any) -> int | None:
    count = _count(kibibytes)
    return None if count is None else count * 1024


def _each(value: Any, read: Callable[[Any], _Item], most: int) -> tuple[_Item, ...]:
    found = []
    for row in value[:most] if isinstance(value, list) else ():
        try:
            found.append(read(row))
        except (TypeError, ValueError):
            continue
    return tuple(found)


def _names(value: Any) -> tuple[str, ...]:
    items = value[:MOST_NAMES] if isinstance(value, list) else []
    return tuple(name[:_MOST_NAME] for name in items if isinstance(name, str))


def _text(value: Any, most: int) -> str:
    return value[:most] if isinstance(value, str) else ""


def read_number(value: Any) -> float | None:
    """Return a number that somebody wrote; None if it is none, below zero, or larger than any time or size."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MOST_NUMBER:
        return None
    return float(value) if math.isfinite(value) else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < _MOST_NUMBER else None


def read_moment(value: Any) -> float | None:
    """Return a time that somebody wrote, seconds since the epoch; None if it is none that datetime can hold."""
    found = read_number(value)
    return found if found is not None and found < _END_S else None


def _time(value: Any) -> float:
    found = read_moment(value)
    if found is None:
        raise ValueError(f"not a time: {value!r:.50}")
    return found
