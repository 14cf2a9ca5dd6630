"""The schedules of flows at a server: list, switch on and off, next times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flowherd.backends.graphql.literals import Word, arguments
from flowherd.backends.graphql.rows import parsed_time
from flowherd.backends.graphql.transport import BY, SCHEDULES, GraphQLTransport
from flowherd.backends.json_values import integer, mapping_or_none, mappings_not_null, text, text_or_none
from flowherd.client.queries import is_flowherd_server, select, understanding

#: Number of a flow's newest versions among whose runs the last one is looked for.
_VERSIONS = 3


@dataclass(frozen=True, kw_only=True)
class ScheduleView:
    """A flow's schedule as the server stores it."""

    flow_id: str
    flow: str
    project: str
    version: int
    active: bool
    #: As the dialect writes it: {"clocks": [...], ...} (docs/dialect.md).
    schedule: Mapping[str, Any]
    #: Start time of the first run that the schedule has created and that is not due yet.
    next: datetime | None
    #: State of the flow's run that started last, of this version or an earlier one; None if none has started.
    last_state: str | None
    last_start: datetime | None
    #: Since when it is as it is, and who switched it (flowherd.story.asked_by); None if the server does not say.
    since: datetime | None = None
    by: str | None = None


class Schedules:
    """The schedules of one server. Every method raises BackendUnavailable or BackendRefused."""

    def __init__(self, transport: GraphQLTransport) -> None:
        self._transport = transport

    def find(self, now: datetime, name: str | None = None, project: str | None = None) -> list[ScheduleView]:
        """Return the schedules of all flows that are not archived; only of flows with this name, of this project."""
        has_one = [{"schedule": {"_is_null": False}}, {"flow_group": {"schedule": {"_is_null": False}}}]
        where: dict[str, Any] = {"archived": {"_eq": False}, "_or": has_one}
        if name is not None:
            where["name"] = {"_eq": name}
        if project is not None:
            where["project"] = {"name": {"_eq": project}}
        said = is_flowherd_server(self._transport) and BY in self._transport.server_extensions
        own = " schedule_since schedule_by" if said else ""
        found = select(self._transport, "flow", _fields(now) + own, _schedule, where=where)
        return [view for view in found if view is not None]

    def switch(self, flow_id: str, *, on: bool) -> bool:
        """Switch a flow's schedule on or off; the server deletes or creates its runs. Returns False if it has none."""
        operation = "set_schedule_active" if on else "set_schedule_inactive"
        query = f"mutation($input: {operation}_input!) {{ {operation}(input: $input) {{ success }} }}"
        answer = self._transport.execute(query, {"input": {"flow_id": flow_id}})
        with understanding(self._transport, f"the answer to {operation}"):
            return answer[operation]["success"] is True

    def next_times(self, flow_id: str, count: int, now: datetime) -> list[datetime]:
        """Return the next times of a flow's schedule, also if it is switched off, at most `count`.

        A server that cannot reckon them tells the start times of the runs that it has created ahead, which are fewer,
        and none for a schedule that is switched off.
        """
        if is_flowherd_server(self._transport) and SCHEDULES in self._transport.server_extensions:
            query = "query($flow: UUID!, $count: Int!) { schedule_times(flow_id: $flow, count: $count) }"
            answer = self._transport.execute(query, {"flow": flow_id, "count": count})
            with understanding(self._transport, "the times of a schedule"):
                times = [parsed_time(at) for at in answer["schedule_times"]]
        else:
            where = {"flow_id": {"_eq": flow_id}, **_to_come(now)}
            order = {"scheduled_start_time": Word("asc")}
            given = {"where": where, "order_by": order, "limit": count}
            times = select(self._transport, "flow_run", "scheduled_start_time", _start, **given)
        return [at for at in times if at is not None]


def _to_come(now: datetime) -> dict[str, Any]:
    return {
        "auto_scheduled": {"_eq": True},
        "state": {"_eq": "Scheduled"},
        # The runs before are many and end with the past, so that a server's index leads to the next one.
        "scheduled_start_time": {"_gt": now.isoformat()},
    }


def _fields(now: datetime) -> str:
    next_one = arguments(where=_to_come(now), order_by={"scheduled_start_time": Word("asc")}, limit=1)
    started = {"start_time": {"_is_null": False}}
    last_one = arguments(where=started, order_by={"start_time": Word("desc")}, limit=1)
    versions = arguments(order_by={"version": Word("desc")}, limit=_VERSIONS)
    return (
        "id name version is_schedule_active schedule project { name } "
        f"next: flow_runs{next_one} {{ scheduled_start_time }} "
        f"flow_group {{ schedule flows{versions} {{ last: flow_runs{last_one} {{ state start_time }} }} }}"
    )


def _schedule(row: Mapping[str, Any]) -> ScheduleView | None:
    group, project = mapping_or_none(row["flow_group"]) or {}, mapping_or_none(row["project"])
    schedule = mapping_or_none(group.get("schedule")) or mapping_or_none(row["schedule"])
    if schedule is None:
        return None
    coming = [_start(run) for run in mappings_not_null(row["next"])]
    flows = mappings_not_null(group["flows"]) if "flows" in group else []
    started = [(parsed_time(run["start_time"]), run) for flow in flows for run in mappings_not_null(flow["last"])]
    known = [(at, run) for at, run in started if at is not None]
    last_start, last = max(known, key=lambda pair: pair[0], default=(None, None))
    return ScheduleView(
        flow_id=text(row["id"]),
        flow=text(row["name"]),
        project="" if project is None else text_or_none(project["name"]) or "",
        version=integer(row["version"]),
        active=row["is_schedule_active"] is True,
        schedule=schedule,
        next=coming[0] if coming else None,
        last_state=None if last is None else text_or_none(last["state"]),
        last_start=last_start,
        since=parsed_time(row.get("schedule_since")),
        by=text_or_none(row.get("schedule_by")),
    )


def _start(row: Mapping[str, Any]) -> datetime | None:
    return parsed_time(row["scheduled_start_time"])
