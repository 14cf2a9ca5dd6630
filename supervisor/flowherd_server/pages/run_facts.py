"""The facts of a run in a row, below the verdict: when, how long, where, what it used, how much it wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flowherd.story.account import Account
from flowherd.story.live import RunFigures
from flowherd.story.verdict import NEAR_LIMIT_SHARE
from flowherd.web import drawings
from flowherd.web.formats import about, counted, duration, size
from flowherd_server.store.microseconds import to_datetime

#: Names of signals that end runs, by their numbers (signal(7)).
_SIGNALS = {1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV"}
_SIGNALS |= {13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM", 24: "SIGXCPU", 25: "SIGXFSZ"}


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One fact: a word, its value, and more in small print."""

    word: str
    value: str = ""
    small: str = ""
    #: Shown in place of the value.
    at: datetime | None = None
    #: Since when it goes on; shown in place of the value, and counted on.
    since: datetime | None = None
    #: Where the value leads.
    link: str = ""
    #: HTML of a bar below it.
    bar: str = ""


def facts_of(
    run: Mapping[str, Any],
    *,
    agent: str | None,
    usual_s: float | None,
    figures: RunFigures | None,
    account: Account | None,
) -> list[Fact]:
    """Return what is known of a run, a row of flow_run; what is not known is not there."""
    return [
        *_times(run, usual_s),
        *([Fact(word="Agent", value=agent, link="/agents")] if agent else []),
        *(_now(figures) if figures is not None and run["end_time"] is None else _end(account)),
        *_output(run),
    ]


def _times(run: Mapping[str, Any], usual_s: float | None) -> Iterator[Fact]:
    start, end, due = (_time(run[name]) for name in ("start_time", "end_time", "scheduled_start_time"))
    usual = f"usually {about(usual_s)[1:]}" if usual_s is not None else ""
    if start is None:
        yield Fact(word="Due", at=due, small=usual and f"{usual} long")
        if end is not None:
            yield Fact(word="Ended", at=end)
        return
    yield Fact(word="Started", at=start)
    if end is None:
        yield Fact(word="Elapsed", since=start, small=usual)
    else:
        yield Fact(word="Took", value=duration((end - start).total_seconds()), small=usual)


def _now(figures: RunFigures) -> Iterator[Fact]:
    if figures.cpu_share is not None:
        yield Fact(word="CPU", value=f"{100 * figures.cpu_share:.0f} %", small=_cpu_time(figures.cpu_time_s))
    if figures.memory_bytes is not None:
        yield _memory("Memory", figures.memory_bytes, figures.memory_limit_bytes, figures.peak_memory_bytes)
    if figures.processes is not None:
        limit = f"of {figures.processes_limit:,}" if figures.processes_limit else ""
        yield Fact(word="Processes", value=f"{figures.processes:,}", small=limit)


def _cpu_time(seconds: float | None) -> str:
    return "" if seconds is None else f"{duration(seconds)} so far"


def _end(account: Account | None) -> Iterator[Fact]:
    if account is None:
        return
    if account.peak_memory_bytes is not None:
        limit = account.memory_limit_bytes
        small = f"of {size(limit)}" if limit else ""
        yield Fact(word="Peak memory", value=size(account.peak_memory_bytes), small=small)
    if account.cpu_time_s is not None:
        yield Fact(word="CPU time", value=duration(account.cpu_time_s))
    if account.signal:
        yield Fact(word="Signal", value=_SIGNALS.get(account.signal, "Signal"), small=str(account.signal))
    elif account.exit_code:
        yield Fact(word="Exit code", value=str(account.exit_code))


def _memory(word: str, used: int, limit: int | None, peak: int | None = None) -> Fact:
    if not limit:
        return Fact(word=word, value=size(used), small=f"{size(peak)} at most" if peak and peak > used else "")
    share = used / limit
    label = f"{100 * share:.0f} percent of the limit"
    return Fact(
        word=word,
        value=size(used),
        small=f"of {size(limit)}",
        bar=drawings.bar(share, label, "bad" if share >= 1 else "warn" if share >= NEAR_LIMIT_SHARE else "run"),
    )


def _output(run: Mapping[str, Any]) -> Iterator[Fact]:
    if run["log_lines"] or run["start_time"] is not None:
        errors = run["log_error"] + run["log_critical"]
        small = counted(errors, "error") if errors else counted(run["log_warning"], "warning")
        is_quiet = not errors and not run["log_warning"]
        yield Fact(word="Output", value=counted(run["log_lines"], "line"), small="" if is_quiet else small)


def _time(at_us: int | None) -> datetime | None:
    return None if at_us is None else to_datetime(at_us)
