"""Reports of states by agents and engines: reading them, and what flow runs and task runs have in common."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from graphql import GraphQLInputField, GraphQLInputObjectType, GraphQLList, GraphQLNonNull, GraphQLObjectType
from graphql.type import GraphQLField, GraphQLInt, GraphQLString

from flowherd.states import CLAIMABLE, RunState
from flowherd_server.call import Call
from flowherd_server.errors import STATE_REFUSED, Refused
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.scalars import JSON_INPUT, UUID_INPUT
from flowherd_server.runs.new_state import NewState
from flowherd_server.runs.state_history import RunTables
from flowherd_server.store.microseconds import parse_time
from flowherd_server.store.plain import StoredRow
from flowherd_server.store.row_lookup import row_by_id, words_of

#: Limit of the dialect's real server.
MAX_STATE_BYTES = 1024 * 1024
#: Columns of a run that no state depends on: each of them is JSON, which takes time to read.
_WITHOUT = ("parameters", "context", "run_config")

_STATE_RESULT = GraphQLObjectType(
    "set_state_result",
    {"id": GraphQLField(UUID_INPUT), "status": GraphQLField(GraphQLString), "message": GraphQLField(GraphQLString)},
)


@dataclass(frozen=True, kw_only=True)
class Report:
    """One entry of set_flow_run_states or set_task_run_states."""

    tables: RunTables
    run_id: str
    #: The version that the reporter knows; None to not check it.
    version: int | None
    type: RunState
    serialized: Mapping[str, Any]
    #: When the run entered the state, if flowherd's agent sent it.
    at_us: int | None
    #: When a waiting state may be claimed; None if not sent.
    start_us: int | None
    claim: str | None
    #: What the end of a run carries beside its state (flowherd/story/account.py).
    account: Mapping[str, Any] | None = None
    #: Whether the state keeps the run's state before it inside, which agents of the dialect do themselves.
    keeps_state: bool = False

    def as_state(self, run: StoredRow, stored_type: RunState, now_us: int, claim: str | None) -> NewState:
        """Return the state to store for `run`, claimed with `claim`. A time in the future is replaced by now."""
        at_us = now_us if self.at_us is None or self.at_us > now_us else self.at_us
        start_us = self.start_us
        if start_us is None and stored_type in CLAIMABLE and stored_type is not RunState.PAUSED:
            start_us = now_us  # the dialect's rule; Paused without a time waits for a person
        inner = {"state": run["serialized_state"]} if self.keeps_state else {}
        serialized = {**self.serialized, **inner}
        return NewState(type=stored_type, serialized=serialized, at_us=at_us, start_us=start_us, claim=claim)

    def row(self, call: Call) -> StoredRow:
        """Return the run that is reported on, without `_WITHOUT`. Raises Refused if there is none with this id."""
        try:
            return row_by_id(call.connection, self.tables.runs, self.run_id, _WITHOUT)
        except Refused as error:
            raise self.refused(str(error)) from None

    def refused(self, reason: str, code: str = STATE_REFUSED) -> Refused:
        """Return the error that refuses this report."""
        # The dialect's agents recognise a lost claim by the first words.
        return Refused(f"State update failed for {words_of(self.tables.runs)} ID {self.run_id}: {reason}", code)


def read_reports(given: Input, tables: RunTables, kinds: Container[RunState]) -> list[Report]:
    """Read the input of the operation. Raises Refused if a state is not one of `kinds`, or is malformed."""
    return [read_report(each, tables, kinds) for each in given["states"]]


def read_report(given: Mapping[str, Any], tables: RunTables, kinds: Container[RunState]) -> Report:
    """Read one report. Raises Refused if the state is not one of `kinds`, or is malformed."""
    state = given["state"]
    if not isinstance(state, dict):
        raise Refused("state must be a JSON object")
    if len(json.dumps(state)) > MAX_STATE_BYTES:
        raise Refused(f"a state is larger than {MAX_STATE_BYTES} bytes")
    kind = _kind(state.get("type"))
    if kind is None or kind not in kinds:
        raise Refused(f"{state.get('type')!r} is not a state that a {words_of(tables.runs)} can be put into")
    marks = _marks(state)
    claim = marks.get("claim")
    if claim is not None and not isinstance(claim, str):
        raise Refused("state.context.flowherd.claim must be a string")
    account = marks.get("account")
    return Report(
        tables=tables,
        run_id=given[tables.key],
        version=given.get("version"),
        type=kind,
        serialized=state if account is None else _without_account(state, marks),
        account=account if isinstance(account, dict) else None,
        at_us=_time("state.context.flowherd.at", marks.get("at")),
        start_us=_time("state.start_time", state.get("start_time")) if kind in CLAIMABLE else None,
        claim=claim,
    )


def reporting_operation(tables: RunTables, kinds: Container[RunState], handle: Any) -> Operation:
    """Return the operation set_flow_run_states or set_task_run_states; `handle` gets the reports."""
    state_input = GraphQLInputObjectType(
        f"set_{tables.runs.name}_state_input",
        {
            tables.key: GraphQLInputField(GraphQLNonNull(UUID_INPUT)),
            "version": GraphQLInputField(GraphQLInt),
            "state": GraphQLInputField(GraphQLNonNull(JSON_INPUT)),
        },
    )
    return Operation(
        name=f"set_{tables.runs.name}_states",
        arguments={"states": GraphQLNonNull(GraphQLList(GraphQLNonNull(state_input)))},
        answer={"states": GraphQLList(GraphQLNonNull(_STATE_RESULT))},
        handle=handle,
        prepare=lambda given: read_reports(given, tables, kinds),
    )


def _kind(name: Any) -> RunState | None:
    try:
        return RunState(name)
    except ValueError:
        return None


def _marks(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what flowherd's own agent adds to a state (docs/design.md, section 13)."""
    context = state.get("context")
    marks = context.get("flowherd") if isinstance(context, dict) else None
    return marks if isinstance(marks, dict) else {}


def _without_account(state: Mapping[str, Any], marks: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the state as it is stored: its account has a table of its own."""
    ours = {name: value for name, value in marks.items() if name != "account"}
    return {**state, "context": {**state["context"], "flowherd": ours}}


def _time(what: str, value: Any) -> int | None:
    if value is None:
        return None
    try:
        return parse_time(value)
    except (TypeError, ValueError):
        raise Refused(f"{what} is not an ISO 8601 time: {value!r}") from None
