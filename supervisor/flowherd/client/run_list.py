"""The lists of flow runs that a person asks for: all that match, or what runs, is due, failed lately and comes next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from flowherd.backends.graphql.literals import Word, arguments
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.backends.json_values import integer, mapping, mapping_or_none, mappings_not_null, text
from flowherd.client.queries import select, understanding
from flowherd.client.run_filter import RunFilter, all_of
from flowherd.client.runs import RUN_FIELDS, RunView, run_fields, run_of
from flowherd.states import ACTIVE, CLAIMABLE, FINISHED, SUCCESSFUL, WAITING, RunState
from flowherd.story.order import BAD, LATE_AFTER, LATELY, Group, RunFacts

#: Maximum number of runs of one group that are read.
_MAX_ROWS = 1000
#: Maximum number of failed runs of which is found out which are in a row.
_MAX_FAILED = 200
#: How far ahead the runs of a flow are counted that follow its next one.
_SOON = timedelta(hours=1)
#: States of runs that can be late: the others wait for a person.
_CAN_BE_LATE = CLAIMABLE - {RunState.PAUSED}


@dataclass(frozen=True)
class Coming:
    """What a flow's next run is followed by."""

    #: Number of the flow's runs, the next one counted in, that are due within an hour.
    within_hour: int
    #: The flow's schedule as the server has it; None if it has none or follows none.
    schedule: Mapping[str, Any] | None


@dataclass(frozen=True)
class Overview:
    """What runs, is due, failed lately and comes next. Of waiting runs, the next one of each flow."""

    runs: Sequence[RunView]
    #: Runs that ended well between the failed ones, by which failures in a row are told from others.
    between: Sequence[RunView]
    #: Number of runs in each group at the server.
    totals: Mapping[Group, int]
    #: What follows the next run of a flow, by the id of that run.
    coming: Mapping[str, Coming] = field(default_factory=dict)


def facts_of(run: RunView) -> RunFacts:
    """Return what decides the place of a run in the one order."""
    return RunFacts(
        flow=run.flow_group or run.flow,
        state=run.state,
        due=run.due,
        started=run.start_time,
        ended=run.end_time,
    )


class RunList:
    """Lists the flow runs of one server. Every method raises BackendUnavailable or BackendRefused."""

    def __init__(self, transport: GraphQLTransport) -> None:
        self._transport = transport

    def matching(self, wanted: RunFilter, limit: int) -> list[RunView]:
        """Return the newest runs that match, newest first."""
        given = {"where": wanted.where(), "order_by": {"created": Word("desc")}, "limit": limit}
        return select(self._transport, "flow_run", run_fields(self._transport), run_of, **given)

    def where(self, condition: Mapping[str, Any], limit: int) -> list[RunView]:
        """Return the newest runs for which a condition of GraphQL holds: by their start, those without one last."""
        order = [{"start_time": Word("desc_nulls_last")}, {"scheduled_start_time": Word("desc")}]
        return select(self._transport, "flow_run", RUN_FIELDS, run_of, where=condition, order_by=order, limit=limit)

    def count(self, wanted: RunFilter) -> int:
        """Return how many runs match."""
        data = self._transport.execute(f"query {{ {_count('found', wanted.where())} }}")
        with understanding(self._transport, "the number of runs"):
            return _number(data["found"])

    def overview(self, wanted: RunFilter, now: datetime, limit: int) -> Overview:
        """Return what matches of what runs, is due, failed lately and comes next; at most `limit` that are due."""
        asc, desc = Word("asc"), Word("desc")
        soon = {"_and": [{"state": {"_in": sorted(WAITING)}}, {"scheduled_start_time": {"_lte": _text(now + _SOON)}}]}
        more = (
            "flow { schedule is_schedule_active flow_group { schedule } "
            f"flow_runs_aggregate{arguments(where=soon)} {{ aggregate {{ count }} }} }}"
        )
        following = _Part([{"flow_id": asc}, {"scheduled_start_time": asc}], None, [Word("flow_id")], more)
        failed = _Part([{"end_time": desc}], _MAX_FAILED)
        found, totals, data = self._groups(
            wanted, now, {**_first_groups(limit), Group.FAILED: failed, Group.NEXT: following}
        )
        with understanding(self._transport, "the next runs"):
            coming = {text(row["id"]): _coming(row) for row in mappings_not_null(data[Group.NEXT.value])}
        runs = [run for part in found.values() for run in part]
        return Overview(runs, self._between(found[Group.FAILED]), totals, coming)

    def groups(self, wanted: RunFilter, now: datetime, limit: int) -> Overview:
        """Return all that matches: of each group at most `limit`, those that come first; what runs is whole."""
        asc, desc = Word("asc"), Word("desc")
        parts = {
            **_first_groups(limit),
            Group.FAILED: _Part([{"end_time": desc}], limit),
            Group.NEXT: _Part([{"scheduled_start_time": asc}], limit),
            Group.ENDED: _Part([{"end_time": desc}], limit),
        }
        found, totals, _ = self._groups(wanted, now, parts)
        return Overview([run for part in found.values() for run in part], (), totals)

    def _groups(
        self, wanted: RunFilter, now: datetime, parts: Mapping[Group, _Part]
    ) -> tuple[dict[Group, list[RunView]], dict[Group, int], Mapping[str, Any]]:
        conditions = _conditions(wanted.where(), now)
        fields = [
            *(part.text(group.value, conditions[group]) for group, part in parts.items()),
            *(_count(f"all_{group.value}", condition) for group, condition in _counted(wanted, conditions).items()),
        ]
        data = self._transport.execute(f"query {{ {' '.join(fields)} }}")
        with understanding(self._transport, "the runs"):
            found = {group: [run_of(row) for row in mappings_not_null(data[group.value])] for group in parts}
            totals = {group: _number(data[f"all_{group.value}"]) for group in Group}
        totals[Group.ENDED] -= totals[Group.FAILED]
        return found, totals, data

    def _between(self, failed: Sequence[RunView]) -> list[RunView]:
        """Return the runs that ended well since the earliest of these failures, of flows that failed more than once."""
        flows = [facts_of(run).flow for run in failed]
        often = sorted({run.flow for run in failed if flows.count(facts_of(run).flow) > 1})
        ends = [run.end_time for run in failed if run.end_time is not None]
        if not often or not ends:
            return []
        well = {"state": {"_in": sorted(SUCCESSFUL)}}
        where = all_of(well, {"flow": {"name": {"_in": often}}}, {"end_time": {"_gte": _text(min(ends))}})
        order = {"end_time": Word("desc")}
        return select(self._transport, "flow_run", RUN_FIELDS, run_of, where=where, order_by=order, limit=_MAX_ROWS)


@dataclass(frozen=True)
class _Part:
    """How the rows of a group are asked for."""

    order_by: Sequence[Mapping[str, Any]]
    limit: int | None
    distinct_on: Sequence[Word] | None = None
    more: str = ""

    def text(self, name: str, where: Mapping[str, Any] | None) -> str:
        given = arguments(where=where, order_by=self.order_by, limit=self.limit, distinct_on=self.distinct_on)
        return f"{name}: flow_run{given} {{ {RUN_FIELDS} {self.more} }}"


def _first_groups(limit: int) -> dict[Group, _Part]:
    asc = Word("asc")
    return {
        Group.RUNNING: _Part([{"start_time": asc}], _MAX_ROWS),
        Group.DUE: _Part([{"state_start_time": asc}], limit),
    }


def _conditions(wanted: dict[str, Any] | None, now: datetime) -> dict[Group, dict[str, Any] | None]:
    """Return the conditions of the groups; the same as story/order.py decides them."""
    late = {"state_start_time": {"_lt": _text(now - LATE_AFTER)}}
    can_be_late = {"state": {"_in": sorted(_CAN_BE_LATE)}}
    failed: list[dict[str, Any]] = [{"state": {"_in": sorted(BAD)}}, {"end_time": {"_gte": _text(now - LATELY)}}]
    groups: dict[Group, list[dict[str, Any]]] = {
        Group.RUNNING: [{"state": {"_in": sorted(ACTIVE | {RunState.SUBMITTED})}}],
        Group.DUE: [can_be_late, late],
        Group.FAILED: failed,
        Group.NEXT: [{"state": {"_in": sorted(WAITING)}}, {"_not": {"_and": [can_be_late, late]}}],
        Group.ENDED: [{"state": {"_in": sorted(FINISHED | BAD)}}, {"_not": {"_and": failed}}],
    }
    return {group: all_of(wanted, *parts) for group, parts in groups.items()}


def _counted(
    wanted: RunFilter, conditions: Mapping[Group, dict[str, Any] | None]
) -> dict[Group, dict[str, Any] | None]:
    """Return the conditions by which runs are counted: of all that ended, of which flowherd's server has the number."""
    return {**conditions, Group.ENDED: all_of(wanted.where(), {"state": {"_in": sorted(FINISHED | BAD)}})}


def _count(name: str, where: dict[str, Any] | None) -> str:
    return f"{name}: flow_run_aggregate{arguments(where=where)} {{ aggregate {{ count }} }}"


def _number(answer: Any) -> int:
    return integer(mapping(mapping(answer)["aggregate"])["count"])


def _coming(row: Mapping[str, Any]) -> Coming:
    flow = mapping(row["flow"])
    group = mapping_or_none(flow["flow_group"]) or {}
    schedule = mapping_or_none(group.get("schedule")) or mapping_or_none(flow["schedule"])
    return Coming(
        within_hour=_number(flow["flow_runs_aggregate"]), schedule=schedule if flow["is_schedule_active"] else None
    )


def _text(at: datetime) -> str:
    return at.isoformat()
