"""The lists of flow runs that a person asks for: all that match, or what runs, is due, failed lately and comes next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from flowherd.backends.graphql.literals import Word, arguments
from flowherd.backends.graphql.transport import LIVE_REPORTS, TEXT_SO_FAR, GraphQLTransport
from flowherd.backends.json_values import integer, mapping, mapping_or_none, mappings_not_null, text
from flowherd.client.queries import select, state_in, understanding
from flowherd.client.run_filter import RunFilter, all_of
from flowherd.client.runs import RUN_FIELDS, RunView, live_fields, run_fields, run_of
from flowherd.states import CLAIMABLE, FINISHED, SUCCESSFUL, TAKEN, WAITING, RunState
from flowherd.story.order import BAD, LATE_AFTER, LATELY, Group, RunFacts
from flowherd.web.terminal_text import plain_text

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
    #: The last line of the log of each run that runs, by its id, as far as the server tells it.
    last_lines: Mapping[str, str] = field(default_factory=dict)


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
        fields = run_fields(self._transport) + live_fields(self._transport)
        return select(self._transport, "flow_run", fields, run_of, **given)

    def where(self, condition: Mapping[str, Any], limit: int) -> list[RunView]:
        """Return the newest runs for which a condition of GraphQL holds: by their start, those without one last."""
        order = [{"start_time": Word("desc_nulls_last")}, {"scheduled_start_time": Word("desc")}]
        return select(self._transport, "flow_run", RUN_FIELDS, run_of, where=condition, order_by=order, limit=limit)

    def count(self, wanted: RunFilter) -> int:
        """Return how many runs match."""
        data = self._transport.execute(f"query {{ {_count('found', wanted.where())} }}")
        with understanding(self._transport, "the number of runs"):
            return _number(data["found"])

    def overview(self, wanted: RunFilter, now: datetime, limit: int, *, ended: int = 0) -> Overview:
        """Return what matches of what runs, is due, failed lately and comes next; at most `limit` that are due.

        So many of the others that have ended last come with it.
        """
        asc, desc = Word("asc"), Word("desc")
        conditions = _Conditions(wanted.where(), now)
        soon = {"_and": [*conditions.coming, {"scheduled_start_time": {"_lte": _text(now + _SOON)}}]}
        more = (
            "flow { schedule is_schedule_active flow_group { schedule } "
            f"flow_runs_aggregate{arguments(where=soon)} {{ aggregate {{ count }} }} }}"
        )
        following = [{"flow_id": asc}, {"scheduled_start_time": asc}]
        parts = [
            *self._first_parts(limit),
            _Part("failed", Group.FAILED, [{"end_time": desc}], _MAX_FAILED),
            _Part("next", Group.NEXT, following, None, [Word("flow_id")], more),
            _Part("waiting", Group.NEXT, [{"state_start_time": asc}], _MAX_ROWS),
            _Part("missed", Group.NEXT, [{"state_start_time": asc}], _MAX_ROWS),
            *([_Part("ended", Group.ENDED, [{"end_time": desc}], ended)] if ended else []),
        ]
        # All that ended are counted by reading each of them if a text is looked for.
        counted = [Group.NEXT, *([] if wanted.search else [Group.ENDED])]
        found, totals, data = self._read(parts, conditions, counted)
        with understanding(self._transport, "the next runs"):
            coming = {text(row["id"]): _coming(row) for row in mappings_not_null(data["next"])}
        failed = [run for part, runs in found for run in runs if part.group is Group.FAILED]
        runs = [run for _, part in found for run in part]
        return Overview(runs, self._between(failed), totals, coming, _last_lines(data["running"]))

    def running(self, wanted: RunFilter, now: datetime) -> Overview:
        """Return what matches of what runs, and nothing else: what changes all the time, for little."""
        found, totals, data = self._read(self._first_parts(1)[:1], _Conditions(wanted.where(), now), [])
        runs = [run for _, part in found for run in part]
        return Overview(runs, (), totals, last_lines=_last_lines(data["running"]))

    def groups(self, wanted: RunFilter, now: datetime, limit: int) -> Overview:
        """Return all that matches: of each group at most `limit`, those that come first; what runs is whole."""
        asc, desc = Word("asc"), Word("desc")
        parts = [
            *self._first_parts(limit),
            _Part("failed", Group.FAILED, [{"end_time": desc}], limit),
            _Part("next", Group.NEXT, [{"scheduled_start_time": asc}], limit),
            _Part("waiting", Group.NEXT, [{"state_start_time": asc}], limit),
            _Part("missed", Group.NEXT, [{"state_start_time": asc}], limit),
            _Part("ended", Group.ENDED, [{"end_time": desc}], limit),
        ]
        found, totals, data = self._read(parts, _Conditions(wanted.where(), now), [])
        runs = [run for _, part in found for run in part]
        return Overview(runs, (), totals, last_lines=_last_lines(data["running"]))

    def _first_parts(self, limit: int) -> list[_Part]:
        asc = Word("asc")
        newest = arguments(order_by={"timestamp": Word("desc")}, limit=1)
        # Sorting the whole log of a run for its last line takes a server seconds if the log is long.
        lines = "last_line" if LIVE_REPORTS in self._transport.server_extensions else ""
        if TEXT_SO_FAR in self._transport.server_extensions:
            lines += f" so_far: texts_so_far{newest} {{ message }}"
        more = lines + live_fields(self._transport)
        return [
            _Part("running", Group.RUNNING, [{"start_time": asc}], _MAX_ROWS, more=more),
            _Part("due", Group.DUE, [{"state_start_time": asc}], limit),
        ]

    def _read(
        self, parts: Sequence[_Part], conditions: _Conditions, counted: Sequence[Group]
    ) -> tuple[list[tuple[_Part, list[RunView]]], dict[Group, int], Mapping[str, Any]]:
        """Return the runs of each part, how many there are of each group, and the whole answer.

        Counted are the groups that have to be, and those of which a part is cut.
        """
        fields = [part.text(conditions.of(part.name)) for part in parts]
        data = self._transport.execute(f"query {{ {' '.join([*fields, *map(conditions.count, counted)])} }}")
        with understanding(self._transport, "the runs"):
            found = [(part, [run_of(row) for row in mappings_not_null(data[part.name])]) for part in parts]
            counts = {group: _number(data[f"all_{group.value}"]) for group in counted}
        cut = {part.group for part, runs in found if len(runs) == part.limit} - set(counted)
        if cut:
            more = self._transport.execute(f"query {{ {' '.join(map(conditions.count, sorted(cut)))} }}")
            with understanding(self._transport, "the numbers of runs"):
                counts.update({group: _number(more[f"all_{group.value}"]) for group in cut})
        totals = dict.fromkeys([part.group for part in parts], 0)
        for part, runs in found:
            totals[part.group] += len(runs)
        for group, others in ((Group.NEXT, Group.DUE), (Group.ENDED, Group.FAILED)):
            if group in counts:
                counts[group] = max(totals.get(group, 0), counts[group] - counts.get(others, totals.get(others, 0)))
        return found, {**totals, **counts}, data

    def _between(self, failed: Sequence[RunView]) -> list[RunView]:
        """Return the runs that ended well since the earliest of these failures, of flows that failed more than once."""
        flows = [facts_of(run).flow for run in failed]
        often = sorted({run.flow for run in failed if flows.count(facts_of(run).flow) > 1})
        ends = [run.end_time for run in failed if run.end_time is not None]
        if not often or not ends:
            return []
        well = state_in(SUCCESSFUL)
        where = all_of(well, {"flow": {"name": {"_in": often}}}, {"end_time": {"_gte": _text(min(ends))}})
        order = {"end_time": Word("desc")}
        return select(self._transport, "flow_run", RUN_FIELDS, run_of, where=where, order_by=order, limit=_MAX_ROWS)


@dataclass(frozen=True)
class _Part:
    """How some rows of a group are asked for."""

    name: str
    group: Group
    order_by: Sequence[Mapping[str, Any]]
    limit: int | None
    distinct_on: Sequence[Word] | None = None
    more: str = ""

    def text(self, where: Mapping[str, Any] | None) -> str:
        given = arguments(where=where, order_by=self.order_by, limit=self.limit, distinct_on=self.distinct_on)
        return f"{self.name}: flow_run{given} {{ {RUN_FIELDS} {self.more} }}"


class _Conditions:
    """The conditions of the groups, the same as story/order.py decides them, and of what they are counted by."""

    def __init__(self, wanted: dict[str, Any] | None, now: datetime) -> None:
        self._wanted = wanted
        recent, lately = _text(now - LATE_AFTER), _text(now - LATELY)
        scheduled = {"state": {"_eq": RunState.SCHEDULED.value}}
        late = {"_and": [state_in(_CAN_BE_LATE), {"state_start_time": {"_lt": recent}}]}
        failed = {"_and": [state_in(BAD), {"end_time": {"_gte": lately}}]}
        #: Nearly all that waits: scheduled for a time to come, to which an index leads past all that has ended.
        self.coming: list[dict[str, Any]] = [scheduled, {"scheduled_start_time": {"_gte": recent}}]
        missed = [scheduled, {"scheduled_start_time": {"_lt": recent}}]
        self._parts: dict[str, list[dict[str, Any]]] = {
            "running": [state_in(TAKEN)],
            "due": [late],
            "failed": [failed],
            "next": [*self.coming, {"_not": late}],
            "waiting": [state_in(WAITING - {RunState.SCHEDULED}), {"_not": late}],
            "missed": [*missed, {"_not": late}],
            "ended": [state_in(FINISHED | BAD), {"_not": failed}],
        }
        # Together with those that are due or failed lately: of all in some states flowherd's server has the number.
        self._counted: dict[Group, dict[str, Any]] = {
            Group.RUNNING: state_in(TAKEN),
            Group.DUE: late,
            Group.FAILED: failed,
            Group.NEXT: state_in(WAITING),
            Group.ENDED: state_in(FINISHED | BAD),
        }

    def of(self, part: str) -> dict[str, Any] | None:
        """Return the condition of a part of a list."""
        return all_of(self._wanted, *self._parts[part])

    def count(self, group: Group) -> str:
        """Return the field that counts the runs of a group, of NEXT and ENDED with those of DUE and FAILED."""
        return _count(f"all_{group.value}", all_of(self._wanted, self._counted[group]))


def _count(name: str, where: dict[str, Any] | None) -> str:
    return f"{name}: flow_run_aggregate{arguments(where=where)} {{ aggregate {{ count }} }}"


def _number(answer: Any) -> int:
    return integer(mapping(mapping(answer)["aggregate"])["count"])


def _last_lines(rows: Any) -> dict[str, str]:
    """Return what each of these running runs has written last: of a line that is not finished, else the last line."""
    found = {}
    for row in rows:
        texts = [*(line.get("message") for line in row.get("so_far") or ()), row.get("last_line")]
        message = next((one for one in texts if isinstance(one, str) and one), None)
        if message is not None:
            found[text(row["id"])] = plain_text(message).strip()
    return found


def _coming(row: Mapping[str, Any]) -> Coming:
    flow = mapping(row["flow"])
    group = mapping_or_none(flow["flow_group"]) or {}
    schedule = mapping_or_none(group.get("schedule")) or mapping_or_none(flow["schedule"])
    return Coming(
        within_hour=_number(flow["flow_runs_aggregate"]), schedule=schedule if flow["is_schedule_active"] else None
    )


def _text(at: datetime) -> str:
    return at.isoformat()
