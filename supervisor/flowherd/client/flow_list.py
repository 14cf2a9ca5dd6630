"""Flows with what is to be seen of each: its last runs, its next one, its schedule, how long it usually takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from flowherd.backends.graphql.literals import Word, arguments
from flowherd.backends.graphql.rows import parsed_time
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.backends.json_values import (
    integer,
    mapping,
    mapping_or_none,
    mappings,
    mappings_not_null,
    sequence,
    text,
    text_or_none,
)
from flowherd.client.queries import select, state_in, understanding
from flowherd.parameter_names import parameter_names
from flowherd.states import SUCCESSFUL, TAKEN, WAITING, RunState
from flowherd.story.usual import LOOKED_AT, usual_s

#: Number of a flow's newest versions whose runs are looked at.
_VERSIONS = 3
#: Maximum number of runs that are read of those which wait for something else than a time to come.
_MAX_WAITING = 1000
_WAITING = "id state scheduled_start_time state_start_time"
#: Number of a flow's newest runs that are read.
RECENT = 10


@dataclass(frozen=True, kw_only=True)
class PastRun:
    """A run of a flow that has started."""

    id: str
    state: str
    started: datetime | None
    ended: datetime | None


@dataclass(frozen=True, kw_only=True)
class FlowView:
    """A registered flow."""

    id: str
    name: str
    version: int
    project: str
    #: When this version was registered.
    created: datetime | None
    #: What to run, how, and with which settings, as in the document that registered it.
    storage: Mapping[str, Any]
    run_config: Mapping[str, Any]
    settings: Mapping[str, Any]
    labels: tuple[str, ...]
    #: Parameters with their defaults; None as a default stands for none.
    defaults: Mapping[str, Any]
    #: Names of all parameters; None if they are not known, or it takes any.
    parameters: tuple[str, ...] | None
    required: frozenset[str]
    #: As the dialect writes it; None if it has none.
    schedule: Mapping[str, Any] | None
    is_schedule_active: bool
    #: When its next run that waits may start, and which it is; None if none waits.
    next_due: datetime | None
    next_id: str | None
    next_state: str | None
    #: Its newest runs that have started, of the newest versions, the newest first.
    recent: Sequence[PastRun]
    #: Number of its runs that are running or submitted.
    running: int
    #: How long its good runs usually take, seconds; None if there are too few.
    usual_s: float | None


class FlowList:
    """The registered flows of one server. Every method raises BackendUnavailable or BackendRefused."""

    def __init__(self, transport: GraphQLTransport) -> None:
        self._transport = transport

    def all(self, *, name: str | None = None, project: str | None = None, flow_id: str | None = None) -> list[FlowView]:
        """Return the flows that are not archived, by name; only those with this name, of this project."""
        where: dict[str, Any] = {"archived": {"_eq": False}} if flow_id is None else {"id": {"_eq": flow_id}}
        if name is not None:
            where["name"] = {"_eq": name}
        if project is not None:
            where["project"] = {"name": {"_eq": project}}
        now = datetime.now(timezone.utc).isoformat()
        given = arguments(where=where, order_by={"name": Word("asc")})
        # Of the runs that are scheduled for later, an index leads to the first; the other waiting ones are few.
        # In an order that no index has: one would be read past all that has ended.
        order = {"state_start_time": Word("asc")}
        missed = {"state": {"_eq": RunState.SCHEDULED.value}, "scheduled_start_time": {"_lt": now}}
        waiting = arguments(where=state_in(WAITING - {RunState.SCHEDULED}), order_by=order, limit=_MAX_WAITING)
        due = arguments(where=missed, order_by=order, limit=_MAX_WAITING)
        data = self._transport.execute(
            f"query {{ flow{given} {{ {_fields(now)} }} waiting: flow_run{waiting} {{ {_WAITING} flow_id }} "
            f"due: flow_run{due} {{ {_WAITING} flow_id }} }}"
        )
        with understanding(self._transport, "the flows"):
            others_of: dict[str, Mapping[str, Any]] = {}
            rows = [*mappings_not_null(data["waiting"]), *mappings_not_null(data["due"])]
            for row in sorted(rows, key=lambda one: text(one["scheduled_start_time"])):
                others_of.setdefault(text(row["flow_id"]), row)
            return [_flow(row, others_of.get(row["id"])) for row in mappings_not_null(data["flow"])]

    def versions(self, flow: FlowView) -> list[tuple[int, datetime | None]]:
        """Return the versions of a flow with the times at which they were registered, the newest first."""
        where = {"name": {"_eq": flow.name}, "project": {"name": {"_eq": flow.project}}}
        return select(
            self._transport,
            "flow",
            "version created",
            lambda row: (integer(row["version"]), parsed_time(row["created"])),
            where=where,
            order_by={"version": Word("desc")},
        )


def _fields(now: str) -> str:
    started, desc = {"start_time": {"_is_null": False}}, {"start_time": Word("desc")}
    good = {"state": {"_in": sorted(SUCCESSFUL - {RunState.SKIPPED})}, **started}
    recent = arguments(where=started, order_by=desc, limit=RECENT)
    usual = arguments(where=good, order_by=desc, limit=LOOKED_AT)
    to_come = {"state": {"_eq": RunState.SCHEDULED.value}, "scheduled_start_time": {"_gte": now}}
    coming = arguments(where=to_come, order_by={"scheduled_start_time": Word("asc")}, limit=1)
    running = arguments(where=state_in(TAKEN))
    versions = arguments(order_by={"version": Word("desc")}, limit=_VERSIONS)
    past = "{ id state start_time end_time }"
    return (
        "id name version created project { name } storage run_config settings parameters schedule is_schedule_active "
        f"coming: flow_runs{coming} {{ {_WAITING} }} "
        f"flow_group {{ labels schedule flows{versions} {{ recent: flow_runs{recent} {past} "
        f"good: flow_runs{usual} {past} running: flow_runs_aggregate{running} {{ aggregate {{ count }} }} }} }}"
    )


def _flow(row: Mapping[str, Any], waiting: Mapping[str, Any] | None) -> FlowView:
    """Return the flow of a row; `waiting` is its first run that waits and is not only scheduled for later."""
    group, project = mapping_or_none(row["flow_group"]) or {}, mapping_or_none(row["project"])
    run_config, storage = mapping_or_none(row["run_config"]) or {}, mapping_or_none(row["storage"]) or {}
    versions = mappings_not_null(group["flows"]) if "flows" in group else []
    labels = group.get("labels") if group.get("labels") is not None else run_config.get("labels")
    parameters = mappings(row["parameters"])
    first = waiting or next(iter(mappings_not_null(row["coming"])), None)
    due = None
    if first is not None:
        due = parsed_time(first["state_start_time"]) or parsed_time(first["scheduled_start_time"])
    good = [run for run in _runs(versions, "good") if run.started is not None and run.ended is not None]
    schedule = mapping_or_none(group.get("schedule")) or mapping_or_none(row["schedule"])
    return FlowView(
        id=text(row["id"]),
        name=text(row["name"]),
        version=integer(row["version"]),
        project="" if project is None else text_or_none(project["name"]) or "",
        created=parsed_time(row["created"]),
        storage=storage,
        run_config=run_config,
        settings=mapping_or_none(row["settings"]) or {},
        labels=tuple(map(text, sequence(labels or []))),
        defaults={text(one["name"]): one.get("default") for one in parameters},
        parameters=parameter_names(storage, parameters),
        required=frozenset(text(one["name"]) for one in parameters if one.get("required") is True),
        schedule=schedule,
        is_schedule_active=schedule is not None and row["is_schedule_active"] is True,
        next_due=due,
        next_id=None if first is None else text(first["id"]),
        next_state=None if first is None else text(first["state"]),
        recent=_runs(versions, "recent")[:RECENT],
        running=sum(integer(mapping(mapping(one["running"])["aggregate"])["count"]) for one in versions),
        usual_s=usual_s([(run.ended - run.started).total_seconds() for run in good if run.ended and run.started]),
    )


def _runs(versions: Sequence[Mapping[str, Any]], name: str) -> list[PastRun]:
    found = [
        PastRun(
            id=text(run["id"]),
            state=text(run["state"]),
            started=parsed_time(run["start_time"]),
            ended=parsed_time(run["end_time"]),
        )
        for version in versions
        for run in mappings_not_null(version[name])
    ]
    return sorted(found, key=lambda run: 0.0 if run.started is None else run.started.timestamp(), reverse=True)
