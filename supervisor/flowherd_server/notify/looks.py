"""What the server looks for now and then: late and stuck runs, runs near their limit, agents that are away."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Connection, RowMapping, Select, select, text

from flowherd.notify.changes import Condition, Look, Relief, Trouble
from flowherd.notify.kinds import Kind
from flowherd.notify.message import sentence, title
from flowherd.notify.rules import Subject
from flowherd.shown_times import spoken_size, spoken_span
from flowherd.states import ACTIVE, FINISHED, RunState
from flowherd.story.agent_report import AgentReport, read_agent_report
from flowherd.story.live import RunFigures
from flowherd.story.order import LATE_AFTER
from flowherd.story.stuck import may_be_stuck, stuck_reason
from flowherd_server.runs.live_board import LiveBoard
from flowherd_server.runs.usual_durations import UsualDurations
from flowherd_server.store.indexes import WAITS
from flowherd_server.store.microseconds import SECOND_US, to_datetime
from flowherd_server.store.tables import AGENT, FLOW, FLOW_RUN, PROJECT

#: Kinds that a look can find.
LOOKED_FOR = frozenset({Kind.LATE, Kind.STUCK, Kind.NEAR_LIMIT, Kind.AGENT_AWAY})
#: What is known of runs and agents only once they have reported after a start of the server.
REPORTED = frozenset({Kind.STUCK, Kind.NEAR_LIMIT, Kind.AGENT_AWAY})
#: Share of its limit from which on a run is near it, and below which it is so no more.
NEAR, NO_LONGER_NEAR = 0.9, 0.8
#: An agent that was not heard of for this time is away, seconds; one that was not for a day is forgotten.
AWAY_S, FORGOTTEN_S = 60.0, 86_400.0
#: Words of a hold by which an agent announces its end.
_ENDING = frozenset({"stopping", "draining"})
_MOST_ROWS = 2_000


class Connected(Protocol):
    """Knows which agents are connected."""

    def is_connected(self, agent_id: str) -> bool:
        """Return whether an agent holds a connection."""


class Sources(Protocol):
    """What the server knows beside its database: that of ServerCore which is needed here."""

    live: LiveBoard
    usual: UsualDurations

    @property
    def board(self) -> Connected:
        """Return what knows the connections."""


@dataclass
class Looker:
    """One look. `known` are the conditions that were found before."""

    connection: Connection
    sources: Sources
    known: Mapping[str, Condition]
    #: Microseconds since the epoch.
    now_us: int
    #: Returns the address of a run's page.
    run_link: Callable[[str], str]
    _troubles: list[Trouble] = field(default_factory=list)
    _reliefs: dict[str, Relief] = field(default_factory=dict)
    _kept: set[str] = field(default_factory=set)

    def look(self, kinds: Collection[Kind], *, is_settled: bool) -> Look:
        """Look for these kinds. Until reports can have come in after a start, what rests on them stays as it was."""
        looks = {
            Kind.LATE: self._late,
            Kind.STUCK: self._running,
            Kind.NEAR_LIMIT: self._running,
            Kind.AGENT_AWAY: self._away,
        }
        wanted = [kind for kind in looks if kind in kinds and (is_settled or kind not in REPORTED)]
        for each in dict.fromkeys(looks[kind] for kind in wanted):
            each()
        kept = {key for key, condition in self.known.items() if condition.kind not in wanted}
        troubles = [each for each in self._troubles if each.kind in wanted]
        return Look(troubles=troubles, reliefs=self._reliefs, kept=frozenset(kept | self._kept))

    # -- late runs, one trouble a flow

    def _late(self) -> None:
        before = self.now_us - round(LATE_AFTER.total_seconds() * SECOND_US)
        waits = text(f"flow_run.{WAITS}")
        query = _runs(FLOW_RUN.c.state_start_time).where(
            waits, FLOW_RUN.c.state != RunState.PAUSED.value, FLOW_RUN.c.state_start_time < before
        )
        by_flow: dict[str, list[RowMapping]] = {}
        for row in self._rows(query.order_by(FLOW_RUN.c.state_start_time)):
            by_flow.setdefault(f"late:{row['flow_group_id']}", []).append(row)
        for key, rows in by_flow.items():
            self._troubles.append(self._late_flow(key, rows))
        for key in self._known(Kind.LATE) - by_flow.keys():
            flow = self._flow(key.partition(":")[2])
            if flow is not None:
                self._reliefs[key] = Relief(title=title(f"{flow['name']} is no longer late"), about=_about(flow))

    def _late_flow(self, key: str, rows: list[RowMapping]) -> Trouble:
        first = rows[0]
        late = spoken_span((self.now_us - first["state_start_time"]) / SECOND_US)
        many = f"; {len(rows)} of its runs are late" if len(rows) > 1 else ""
        return Trouble(
            key=key,
            kind=Kind.LATE,
            title=title(f"{first['flow']} is late: due {late} ago and not started{many}"),
            about=_about(first),
            since=first["state_start_time"] / SECOND_US,
            fields={**self._run_fields(first), "count": len(rows)},
        )

    # -- running runs

    def _running(self) -> None:
        query = _runs(FLOW_RUN.c.state_timestamp).where(FLOW_RUN.c.state.in_(sorted(ACTIVE)))
        seen = set()
        for row in self._rows(query):
            seen.add(row["id"])
            figures = self.sources.live.figures(row["id"])
            self._stuck(row, figures)
            self._near_limit(row, figures)
        for key in self._known(Kind.STUCK, Kind.NEAR_LIMIT):
            kind, _, run_id = key.partition(":")
            if run_id not in seen and kind == Kind.STUCK.value:
                self._stuck_run_has_ended(key, run_id)

    def _stuck(self, row: RowMapping, figures: RunFigures | None) -> None:
        key = f"{Kind.STUCK}:{row['id']}"
        if not may_be_stuck(row["state"], figures):
            if figures is None and key in self.known:
                self._kept.add(key)
            else:
                self._reliefs[key] = self._relief(row, "is no longer stuck")
            return
        usual_s = self.sources.usual.of_flow(self.connection, row["flow_id"])
        since, now = to_datetime(row["state_timestamp"]), to_datetime(self.now_us)
        reason = stuck_reason(row["state"], since, figures, usual_s, now)
        if not reason:
            self._reliefs[key] = self._relief(row, "is no longer stuck")
            return
        # The reason has a time limit of its own, so it has lasted long enough.
        trouble = Trouble(
            key=key,
            kind=Kind.STUCK,
            title=title(f"{row['flow']} is stuck: {reason}"),
            about=_about(row),
            since=0.0,
            fields=self._run_fields(row),
        )
        self._troubles.append(trouble)

    def _stuck_run_has_ended(self, key: str, run_id: str) -> None:
        row = next(iter(self._rows(_runs().where(FLOW_RUN.c.id == run_id))), None)
        if row is not None:
            how = "has ended" if row["state"] in FINISHED else "is no longer stuck"
            self._reliefs[key] = self._relief(row, f"{how}: {row['state']}")

    def _near_limit(self, row: RowMapping, figures: RunFigures | None) -> None:
        key = f"{Kind.NEAR_LIMIT}:{row['id']}"
        if figures is None or figures.memory_bytes is None or not figures.memory_limit_bytes:
            self._kept.add(key)
            return
        share = figures.memory_bytes / figures.memory_limit_bytes
        limit = spoken_size(figures.memory_limit_bytes)
        if share >= NEAR or (key in self.known and share >= NO_LONGER_NEAR):
            what = f"{row['flow']} uses {share * 100:.0f} % of its memory limit of {limit}"
            fields = self._run_fields(row)
            self._troubles.append(
                Trouble(key=key, kind=Kind.NEAR_LIMIT, title=title(what), about=_about(row), since=0.0, fields=fields)
            )
        else:
            self._reliefs[key] = self._relief(row, f"uses {share * 100:.0f} % of its memory limit of {limit} again")

    # -- agents

    def _away(self) -> None:
        query = select(AGENT.c.id, AGENT.c.name, AGENT.c.labels, AGENT.c.last_queried, AGENT.c.report)
        same: dict[tuple[Any, ...], list[tuple[RowMapping, AgentReport]]] = {}
        for row in self.connection.execute(query).mappings():
            report = read_agent_report(row["report"]) or AgentReport()
            # As `flowherd agents` does it: rows of one name on one host are one agent, which was started again.
            same.setdefault((row["name"], report.host or tuple(row["labels"])), []).append((row, report))
        for rows in same.values():
            self._agent(rows)

    def _agent(self, rows: list[tuple[RowMapping, AgentReport]]) -> None:
        newest, report = max(rows, key=lambda one: one[0]["last_queried"] or 0)
        name = newest["name"] or "(without a name)"
        key = f"{Kind.AGENT_AWAY}:{name}@{report.host or ','.join(newest['labels'])}"
        silent_s = (self.now_us - (newest["last_queried"] or 0)) / SECOND_US
        about = Subject(labels=tuple(newest["labels"]))
        where = f" on {report.host}" if report.host else ""
        if silent_s < AWAY_S or any(self.sources.board.is_connected(row["id"]) for row, _ in rows):
            self._reliefs[key] = Relief(
                title=title(f"Agent {name}{where} is back"), about=about, fields={"agent": name}
            )
        elif report.hold in _ENDING:
            pass  # it was stopped, which is no trouble any more
        elif silent_s < FORGOTTEN_S or key in self.known:
            runs = f", with {report.runs} run{'' if report.runs == 1 else 's'}" if report.runs else ""
            self._troubles.append(
                Trouble(
                    key=key,
                    kind=Kind.AGENT_AWAY,
                    title=title(f"Agent {name}{where} is away: not heard of for {spoken_span(silent_s)}{runs}"),
                    about=about,
                    since=(newest["last_queried"] or 0) / SECOND_US,
                    fields={"agent": name},
                )
            )

    # -- what they share

    def _known(self, *kinds: Kind) -> set[str]:
        return {key for key, condition in self.known.items() if condition.kind in kinds}

    def _rows(self, query: Select[Any]) -> Iterator[RowMapping]:
        yield from self.connection.execute(query.limit(_MOST_ROWS)).mappings()

    def _flow(self, group_id: str) -> RowMapping | None:
        query = select(FLOW.c.name, FLOW.c.name.label("flow"), PROJECT.c.name.label("project"))
        query = query.join(PROJECT, PROJECT.c.id == FLOW.c.project_id).where(FLOW.c.flow_group_id == group_id)
        return self.connection.execute(query.order_by(FLOW.c.version.desc()).limit(1)).mappings().first()

    def _run_fields(self, row: RowMapping) -> dict[str, Any]:
        return {
            "run_id": row["id"],
            "run_name": row["name"],
            "state": row["state"],
            "agent": row["agent"],
            "sentence": sentence(row["state_message"] or ""),
            "link": self.run_link(row["id"]),
        }

    def _relief(self, row: RowMapping, how: str) -> Relief:
        return Relief(title=title(f"{row['flow']} {how}"), about=_about(row), fields=self._run_fields(row))


def _runs(*more: Any) -> Select[Any]:
    columns = (FLOW_RUN.c[name] for name in ("id", "name", "labels", "state", "state_message", "flow_id"))
    query = select(
        *columns,
        *more,
        FLOW.c.name.label("flow"),
        FLOW.c.flow_group_id,
        PROJECT.c.name.label("project"),
        AGENT.c.name.label("agent"),
    )
    return (
        query.join(FLOW, FLOW.c.id == FLOW_RUN.c.flow_id)
        .join(PROJECT, PROJECT.c.id == FLOW.c.project_id)
        .outerjoin(AGENT, AGENT.c.id == FLOW_RUN.c.agent_id)
    )


def _about(row: RowMapping) -> Subject:
    return Subject(flow=row["flow"], project=row["project"], labels=tuple(row.get("labels") or ()))
