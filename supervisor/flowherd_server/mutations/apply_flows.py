"""apply_flows: makes the flows of a project what a project file says, all of them or none.

What an earlier `apply_flows` of the same project has registered belongs to the project: flow_group.settings says so,
under the key "flowherd". Only such flows are changed and unregistered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphql import GraphQLList, GraphQLNonNull
from graphql.type import GraphQLBoolean, GraphQLString
from sqlalchemy import func, select, update

from flowherd.flow_description import differences
from flowherd.notify.rules import Rule, read_rule, unknown_channels
from flowherd.states import TAKEN
from flowherd_server.call import Call, Effects
from flowherd_server.errors import Refused
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.scalars import JSON_INPUT
from flowherd_server.mutations.flow_document import FlowDocument, read_document
from flowherd_server.mutations.flows import archive_flow, register_flow
from flowherd_server.mutations.projects import add_project, project_named
from flowherd_server.notify.rules import replace_rules, rules_of_project, stored_channels
from flowherd_server.schedules.auto_runs import schedule_of
from flowherd_server.store.plain import StoredRow
from flowherd_server.store.row_lookup import row_by_id, tenant_id_of
from flowherd_server.store.tables import FLOW, FLOW_GROUP, FLOW_RUN

#: Key in the settings of a flow group, and in it the name of the project to which the flow belongs.
_OURS, _PROJECT = "flowherd", "project"
#: Maximum number of flows in one request: others wait for its transaction.
MAX_FLOWS = 1000


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    project: str
    documents: Sequence[FlowDocument]
    prune: bool
    take_over: bool
    dry_run: bool
    #: The project's rules of notifications; None to leave them as they are.
    notify: Sequence[Rule] | None


def _prepare(given: Input) -> _Wanted:
    """Return the input, checked. Raises Refused."""
    if not given["project"].strip():
        raise Refused("a project's name cannot be empty")
    if len(given["flows"]) > MAX_FLOWS:
        raise Refused(f"{len(given['flows'])} flows in one request; {MAX_FLOWS} are allowed")
    documents = [read_document(value) for value in given["flows"]]
    names = [document.name for document in documents]
    for name in names:
        if names.count(name) > 1:
            raise Refused(f"the flow {name!r} is there twice")
    return _Wanted(
        project=given["project"],
        documents=documents,
        prune=given.get("prune") is True,
        take_over=given.get("take_over") is True,
        dry_run=given.get("dry_run") is True,
        notify=None if given.get("notify") is None else _rules(given["notify"], given["project"]),
    )


def _rules(given: Sequence[Any], project: str) -> list[Rule]:
    try:
        return [read_rule(each, project) for each in given]
    except ValueError as error:
        raise Refused(f"a rule of notifications cannot be used: {error}") from error


def _apply(call: Call, wanted: _Wanted) -> Mapping[str, Any]:
    if not wanted.dry_run:
        return {"changes": list(_changes(call, wanted)), **_change_rules(call, wanted)}
    # Done in full and taken back, so that it is refused exactly when the real one would be.
    tried = replace(call, effects=Effects())
    with call.connection.begin_nested() as savepoint:
        changes = {"changes": list(_changes(tried, wanted)), **_change_rules(tried, wanted)}
        savepoint.rollback()
    return changes


def _change_rules(call: Call, wanted: _Wanted) -> Mapping[str, Any]:
    """Make the project's rules of notifications those that are wanted. Returns them before and after."""
    before = rules_of_project(call.connection, wanted.project)
    if wanted.notify is None:
        return {"notify": {"before": before, "after": before}}
    channels = stored_channels(call.connection)
    for rule in wanted.notify:
        if wrong := unknown_channels(rule, channels):
            raise Refused(f"a rule of notifications cannot be used: {wrong}")
    after = [rule.as_json() for rule in wanted.notify]
    if before != after:
        replace_rules(call.connection, wanted.project, wanted.notify)
        call.effects.notifications = True
    return {"notify": {"before": before, "after": after}}


def _changes(call: Call, wanted: _Wanted) -> Iterator[dict[str, Any]]:
    """Do what is wanted and return what was done, flow by flow."""
    tenant_id = tenant_id_of(call.connection, call.caller)
    project_id = project_named(call, tenant_id, wanted.project) or add_project(call, tenant_id, wanted.project)
    live = {flow["name"]: flow for flow in _live_flows(call, project_id)}
    groups = {flow["flow_group_id"]: _group_settings(call, flow["flow_group_id"]) for flow in live.values()}
    owned = {name for name, flow in live.items() if _owner(groups[flow["flow_group_id"]]) == wanted.project}
    if not wanted.take_over:
        _refuse_those_of_others(live.keys() & {document.name for document in wanted.documents} - owned, wanted.project)
    for document in wanted.documents:
        try:
            yield _put(call, project_id, wanted, document, live.get(document.name), owned)
        except Refused as refusal:
            raise Refused(f"flow {document.name}: {refusal}", refusal.extensions["code"]) from refusal
    for name in sorted(owned - {document.name for document in wanted.documents}):
        yield _unregister(call, live[name]) if wanted.prune else _change(live[name], "left")


def _put(
    call: Call, project_id: str, wanted: _Wanted, document: FlowDocument, live: StoredRow | None, owned: set[str]
) -> dict[str, Any]:
    """Register what the file says of one flow, unless it is registered so already."""
    if live is None:
        flow = register_flow(call, project_id, document, activate=True)
        _own(call, flow["flow_group_id"], wanted.project)
        return _change(flow, "registered", differences({}, document.whole))
    takes_over = document.name not in owned
    if takes_over:
        _own(call, live["flow_group_id"], wanted.project)
    paused = not live["is_schedule_active"] and schedule_of(call.connection, live) is not None
    before: Mapping[str, Any] = row_by_id(call.connection, FLOW, live["id"])["serialized_flow"]
    found = differences(before, document.whole)
    if not found:
        return _change(live, "taken over" if takes_over else "same", paused=paused)
    document = _in_step(document, before)
    # A schedule that a person has paused stays so.
    flow = register_flow(call, project_id, document, activate=not paused)
    paused = paused and document.schedule is not None
    return _change(flow, "taken over" if takes_over else "changed", found, paused=paused)


def _unregister(call: Call, flow: StoredRow) -> dict[str, Any]:
    """Archive a flow, and cancel the runs that wait, of all its versions. Runs that agents have go on."""
    versions = select(FLOW.c.id).where(FLOW.c.version_group_id == flow["version_group_id"])
    ids = call.connection.execute(versions).scalars().all()
    going_on = select(func.count()).where(FLOW_RUN.c.flow_id.in_(ids), FLOW_RUN.c.state.in_(sorted(TAKEN)))
    running = call.connection.execute(going_on).scalar_one()
    return {
        **_change(flow, "unregistered"),
        "cancelled": sum(archive_flow(call, flow_id) for flow_id in ids),
        "running": running,
    }


def _in_step(document: FlowDocument, before: Mapping[str, Any]) -> FlowDocument:
    """Return the document with an interval that goes on from where it began, if it is the same as before."""
    clock, old = _only_clock(document.schedule), _only_clock(before.get("schedule"))
    is_interval = clock.get("type") == old.get("type") == "IntervalClock"
    if not is_interval or clock.get("interval") != old.get("interval"):
        return document
    schedule = {**(document.schedule or {}), "clocks": [{**clock, "start_date": old.get("start_date")}]}
    return replace(document, schedule=schedule, whole={**document.whole, "schedule": schedule})


def _only_clock(schedule: Any) -> Mapping[str, Any]:
    clocks: Any = schedule.get("clocks") if isinstance(schedule, Mapping) else None
    is_one = isinstance(clocks, list) and len(clocks) == 1 and isinstance(clocks[0], Mapping)
    return clocks[0] if is_one else {}


def _change(
    flow: StoredRow, action: str, found: Sequence[Mapping[str, Any]] = (), *, paused: bool = False
) -> dict[str, Any]:
    return {
        "name": flow["name"],
        "action": action,
        "id": flow["id"],
        "version": flow["version"],
        "differences": list(found),
        "paused": paused,
        "cancelled": 0,
        "running": 0,
    }


def _refuse_those_of_others(names: set[str], project: str) -> None:
    if names:
        raise Refused(
            f"registered in project {project} already, but not from a project file: {', '.join(sorted(names))}"
        )


def _live_flows(call: Call, project_id: str) -> list[StoredRow]:
    """Return the flows of a project that are not archived, without their documents, the newest of a name last."""
    columns = [column for column in FLOW.c if column is not FLOW.c.serialized_flow]
    query = select(*columns).where(FLOW.c.project_id == project_id, ~FLOW.c.archived)
    return list(call.connection.execute(query.order_by(FLOW.c.created, FLOW.c.seq)).mappings())


def _group_settings(call: Call, group_id: str) -> dict[str, Any]:
    query = select(FLOW_GROUP.c.settings).where(FLOW_GROUP.c.id == group_id)
    settings: dict[str, Any] = call.connection.execute(query).scalar_one()
    return settings


def _owner(settings: Mapping[str, Any]) -> Any:
    ours = settings.get(_OURS)
    return ours.get(_PROJECT) if isinstance(ours, Mapping) else None


def _own(call: Call, group_id: str, project: str) -> None:
    settings = _group_settings(call, group_id)
    ours = settings.get(_OURS)
    settings[_OURS] = {**(ours if isinstance(ours, Mapping) else {}), _PROJECT: project}
    call.connection.execute(update(FLOW_GROUP).where(FLOW_GROUP.c.id == group_id), {"settings": settings})


OPERATIONS = (
    Operation(
        name="apply_flows",
        arguments={
            "project": GraphQLNonNull(GraphQLString),
            "flows": GraphQLNonNull(GraphQLList(GraphQLNonNull(JSON_INPUT))),
            "prune": GraphQLBoolean,
            "take_over": GraphQLBoolean,
            "dry_run": GraphQLBoolean,
            "notify": GraphQLList(GraphQLNonNull(JSON_INPUT)),
        },
        answer={"changes": JSON_INPUT, "notify": JSON_INPUT},
        handle=_apply,
        prepare=_prepare,
    ),
)
