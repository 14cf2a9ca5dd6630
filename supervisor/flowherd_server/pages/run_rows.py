"""Runs as the lists of the pages show them, a row each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import RowMapping, and_, func, select

from flowherd.states import TAKEN
from flowherd.story.live import RunFigures
from flowherd.story.order import Group, Line
from flowherd.story.waiting import run_waits
from flowherd.web.marks import Mark, mark_of
from flowherd.web.terminal_text import plain_text
from flowherd_server.pages.agent_views import ShownAgent
from flowherd_server.pages.frame import Ask, Page
from flowherd_server.runs.story_records import run_record
from flowherd_server.store.microseconds import to_datetime
from flowherd_server.store.tables import AGENT, FLOW_RUN, LOG_LINE, TEXT_SO_FAR

#: Samples of the CPU's sparkline: two minutes.
_SAMPLES = 60
#: The end of a longer unfinished line is shown, and the beginning of a longer message, characters.
_MAX_TEXT = 300


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One run in a list."""

    id: str
    name: str
    flow: str
    labels: Sequence[str]
    mark: Mark
    #: The mark's word, with how many runs the row stands for.
    word: str
    #: Name of its agent; empty without one.
    agent: str
    #: When it started, was due, or will be; `prefix` says "due ".
    at: datetime | None
    prefix: str
    #: When it ended; None if it has not.
    ended: datetime | None
    #: Since when it goes on; None if it does not.
    since: datetime | None
    #: How long it took or has taken, and usually takes, seconds; None if it has not started, or nothing is usual.
    took_s: float | None
    usual_s: float | None
    figures: RunFigures | None
    #: Share of a processor in the last minutes.
    cpu: Sequence[float]
    #: What it says: why it is late or stuck, its message, or its last line; `line_at` is when that was written.
    says: str
    line_at: datetime | None
    is_stuck: bool
    is_late: bool

    @property
    def share(self) -> float:
        """How much of its usual time has gone, in steps of a twentieth, so that a row does not change all the time."""
        if self.took_s is None or not self.usual_s:
            return 0.0
        return min(1.0, round(self.took_s / self.usual_s * 20) / 20)

    @property
    def memory_share(self) -> float:
        """How much of its memory limit it uses; 0 without one."""
        figures = self.figures
        if figures is None or not figures.memory_limit_bytes or figures.memory_bytes is None:
            return 0.0
        return figures.memory_bytes / figures.memory_limit_bytes


def run_rows(ask: Ask, lines: Iterable[Line[RowMapping]], agents: Sequence[ShownAgent]) -> list[RunRow]:
    """Return a row for each line. `agents` are all that the page knows."""
    lines = list(lines)
    taken = [line.run for line in lines if line.run["state"] in TAKEN]
    last = last_lines(ask, [run["seq"] for run in taken])
    so_far = texts_so_far(ask, [run["id"] for run in taken])
    names = agent_names(ask, {line.run["agent_id"] for line in lines if line.run["agent_id"]}, agents)
    return [_row(ask, line, agents, names, {**last, **_by_seq(taken, so_far)}) for line in lines]


def rows_with_news(
    groups: Sequence[tuple[str, Sequence[Line[RowMapping]], Sequence[RunRow]]],
    agents: Sequence[ShownAgent],
    template: str,
) -> Callable[[Ask], Page | None]:
    """Return a page's `refresh`: its rows of runs that go on, each group with its id, its lines and their rows."""
    going_on = [(id, [line for line in lines if line.run["state"] in TAKEN]) for id, lines, _ in groups]
    stuck = {row.id for _, _, rows in groups for row in rows if row.is_stuck}

    def refresh(ask: Ask) -> Page | None:
        shown = {id: run_rows(ask, lines, agents) for id, lines in going_on if lines}
        if {row.id for rows in shown.values() for row in rows if row.is_stuck} != stuck:
            return None
        return Page(template=template, title="", values={"groups": shown})

    return refresh


def stuck_because(ask: Ask, run: RowMapping) -> str:
    """Return why a run counts as stuck; empty if it does not."""
    return _sentence(ask.core.stuck_runs.reason(ask.connection, run, ask.now))


def last_lines(ask: Ask, seqs: Sequence[int]) -> dict[int, tuple[str, int]]:
    """Return the last line of each of these runs (`flow_run.seq`) and its time, microseconds since the epoch."""
    if not seqs:
        return {}
    other = LOG_LINE.alias()
    newest = select(func.max(other.c.id)).where(other.c.run == FLOW_RUN.c.seq).correlate(FLOW_RUN).scalar_subquery()
    columns = LOG_LINE.c.run, func.substr(LOG_LINE.c.message, 1, _MAX_TEXT), LOG_LINE.c.timestamp
    query = (
        select(*columns)
        .select_from(LOG_LINE)
        .join(FLOW_RUN, and_(LOG_LINE.c.run == FLOW_RUN.c.seq, LOG_LINE.c.id == newest))
    )
    return {run: (text, at) for run, text, at in ask.connection.execute(query.where(FLOW_RUN.c.seq.in_(seqs)))}


def texts_so_far(ask: Ask, run_ids: Sequence[str]) -> dict[str, tuple[str, int]]:
    """Return what these runs have written of unfinished lines, such as progress bars, and when, by run id."""
    if not run_ids:
        return {}
    columns = TEXT_SO_FAR.c.flow_run_id, TEXT_SO_FAR.c.message, TEXT_SO_FAR.c.timestamp
    query = select(*columns).where(TEXT_SO_FAR.c.flow_run_id.in_(run_ids)).order_by(TEXT_SO_FAR.c.timestamp)
    return {run: (text[-_MAX_TEXT:], at) for run, text, at in ask.connection.execute(query)}


def agent_names(ask: Ask, ids: set[str], agents: Sequence[ShownAgent]) -> dict[str, str]:
    """Return the names of agents by their ids."""
    names = {agent.view.id: agent.view.name for agent in agents}
    missing = ids - names.keys()
    if missing:
        query = select(AGENT.c.id, AGENT.c.name).where(AGENT.c.id.in_(sorted(missing)))
        names |= {row.id: row.name or "" for row in ask.connection.execute(query)}
    return names


def _by_seq(runs: Sequence[RowMapping], by_id: Mapping[str, tuple[str, int]]) -> dict[int, tuple[str, int]]:
    return {run["seq"]: by_id[run["id"]] for run in runs if run["id"] in by_id}


def _row(
    ask: Ask,
    line: Line[RowMapping],
    agents: Sequence[ShownAgent],
    names: Mapping[str, str],
    last: Mapping[int, tuple[str, int]],
) -> RunRow:
    run, group = line.run, line.group
    is_taken, is_late = run["state"] in TAKEN, group is Group.DUE
    stuck = stuck_because(ask, run) if is_taken else ""
    mark = mark_of(run["state"], stuck=bool(stuck), late=is_late)
    begun = to_datetime(run["start_time"] or run["state_timestamp"]) if is_taken else None
    text, text_at = last.get(run["seq"], ("", None))
    says = run["state_message"] or ""
    if is_late:
        says = next(
            iter(run_waits(run_record(run, run["flow_name"]), [each.view for each in agents], {}, ask.now)), says
        )
    elif is_taken:
        says = stuck or plain_text(text) or says
    return RunRow(
        id=run["id"],
        name=run["name"],
        flow=run["flow_name"],
        labels=run["labels"],
        mark=mark,
        word=mark.word + (f" \N{MULTIPLICATION SIGN}{line.count}" if group is Group.FAILED and line.count > 1 else ""),
        agent=names.get(run["agent_id"] or "", ""),
        at=_at(run),
        prefix="due " if is_late else "",
        ended=None if run["end_time"] is None else to_datetime(run["end_time"]),
        since=begun,
        took_s=_took_s(ask, run, begun),
        usual_s=ask.core.usual.of_flow(ask.connection, run["flow_id"]) if is_taken else None,
        figures=ask.core.live.figures(run["id"]) if is_taken else None,
        cpu=[one.cpu_share or 0.0 for one in ask.core.live.history(run["id"])[-_SAMPLES:]] if is_taken else (),
        says=says[:_MAX_TEXT],
        line_at=None if text_at is None or stuck else to_datetime(text_at),
        is_stuck=bool(stuck),
        is_late=is_late,
    )


def _at(run: RowMapping) -> datetime | None:
    at = run["start_time"] or run["state_start_time"] or run["scheduled_start_time"]
    return None if at is None else to_datetime(at)


def _took_s(ask: Ask, run: RowMapping, begun: datetime | None) -> float | None:
    if begun is not None:
        return (ask.now - begun).total_seconds()
    if run["start_time"] is None or run["end_time"] is None:
        return None
    return float((run["end_time"] - run["start_time"]) / 1_000_000)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
