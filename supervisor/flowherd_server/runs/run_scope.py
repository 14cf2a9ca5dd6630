"""What a client may do that has the token of one flow run (flowherd/run_token.py): what concerns that run, and no more.

A token holds from the claim for which it was made until the run's end, until the run waits again (which is the end of
an attempt), or until it is claimed again. Nothing is stored for it: the run's own states say all that. For some seconds
after the end it still adds lines to the run's log, because Prefect's client reports why a flow could not be loaded
first as a state, and then as a line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection

from flowherd.run_token import RunToken
from flowherd.states import FINISHED, RunState
from flowherd_server.errors import UNAUTHENTICATED, Refused
from flowherd_server.store.microseconds import now_us
from flowherd_server.store.plain import plain

#: States of a run that some agent has.
_CLAIMED = frozenset({RunState.SUBMITTED, RunState.RUNNING, RunState.CANCELLING})
#: How long after the run's end lines of its log are taken, microseconds.
_LAST_LINES_US = 10_000_000
_LAST_LINES = "write_run_logs"
_RUN = """
SELECT
    flow_run.state, flow_run.end_time, flow_run.tenant_id, flow_run.flow_id, flow.flow_group_id, flow.project_id,
    (SELECT max(version) FROM run_state WHERE run = flow_run.seq AND state = 'Submitted')
FROM flow_run JOIN flow ON flow.id = flow_run.flow_id WHERE flow_run.id = ?
"""
_TASK_RUNS = "SELECT count(*) FROM task_run WHERE id IN (SELECT value FROM json_each(?)) AND flow_run_id = ?"
_ARTIFACT = "SELECT task_run_id FROM task_run_artifact WHERE id = ?"
# A task that stands for a secret has that secret's name; its flow's storage can name more.
_NAMED_SECRET = """
SELECT 1 FROM task WHERE flow_id = ?1 AND name = ?2 AND type LIKE 'prefect.tasks.secrets.%'
UNION ALL
SELECT 1 FROM flow, json_each(flow.storage, '$.secrets') AS named WHERE flow.id = ?1 AND named.value = ?2
"""

Input = Mapping[str, Any]


class RunScope(NamedTuple):
    """A flow run with what belongs to it."""

    token: RunToken
    tenant_id: str
    flow_id: str
    flow_group_id: str
    project_id: str
    #: Why only lines of the log are taken now; empty while the run goes on.
    ended: str = ""

    @property
    def flow_run_id(self) -> str:
        """The run's id."""
        return self.token.flow_run_id

    def check_goes_on(self) -> None:
        """Raise Refused if the run has ended."""
        if self.ended:
            raise _expired(self.token, self.ended)

    def condition(self, table: str) -> Mapping[str, Any]:
        """Return the condition (a bool_exp) that the rows of this table fulfil that belong to the run."""
        return {column: {"_eq": getattr(self, name)} for column, name in _BELONGS[table].items()}

    def check_secret(self, connection: Connection, name: str) -> None:
        """Raise Refused unless the run's flow names this secret."""
        if plain(connection).execute(_NAMED_SECRET, (self.flow_id, name)).fetchone() is None:
            raise self._refused(
                f"it reads only secrets that the flow names, and {name!r} is none; name it in the flow's storage "
                f"(secrets=[{name!r}]) or as a PrefectSecret of the flow, and register the flow again"
            )

    def check_task_runs(self, connection: Connection, task_run_ids: Collection[str]) -> None:
        """Raise Refused unless all these are task runs of the run."""
        ids = set(task_run_ids)
        found = plain(connection).execute(_TASK_RUNS, (json.dumps(sorted(ids)), self.flow_run_id)).fetchone()[0]
        if found != len(ids):
            raise self._refused("it is not for task runs of other runs")

    def check_change(self, connection: Connection, operation: str, given: Input) -> None:
        """Raise Refused unless this operation of RUN_OPERATIONS with this input concerns the run alone.

        It must still be the run's turn: `connection` is that of the transaction which carries the operation out.
        """
        now = scope_of(connection, self.token)
        if operation != _LAST_LINES:
            now.check_goes_on()
        concerns = RUN_OPERATIONS[operation](given)
        if any(run_id != self.flow_run_id for run_id in concerns.flow_runs):
            raise self._refused("it is not for other runs")
        task_runs = set(concerns.task_runs)
        for artifact_id in concerns.artifacts:
            task_runs.update(plain(connection).execute(_ARTIFACT, (artifact_id,)).fetchone() or ("",))
        self.check_task_runs(connection, task_runs)

    def explained(self, status: int, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return an answer with the hint that what a request asks for may be there for other tokens."""
        if status == 200:
            return body
        hint = f"; this is the token of flow run {self.flow_run_id}, with which only that run's own data can be used"
        return {**body, "errors": [{**error, "message": error["message"] + hint} for error in body["errors"]]}

    def _refused(self, why: str) -> Refused:
        text = f"UNAUTHENTICATED: this token is for flow run {self.flow_run_id} alone: {why}"
        return Refused(text, UNAUTHENTICATED)


class _Concerns(NamedTuple):
    """Ids of what an operation would change."""

    flow_runs: Collection[str] = ()
    task_runs: Collection[str] = ()
    artifacts: Collection[str] = ()


def scope_of(connection: Connection, token: RunToken) -> RunScope:
    """Return what belongs to the run of a token. Raises Refused if the token does not hold any more.

    If the run has just ended, `ended` says so.
    """
    found = plain(connection).execute(_RUN, (token.flow_run_id,)).fetchone()
    if found is None:
        raise _expired(token, "there is no such run")
    state, end_us, tenant_id, flow_id, flow_group_id, project_id, claimed_version = found
    if claimed_version is not None and claimed_version > token.version + 1:
        raise _expired(token, "the run was claimed again since")
    ended = "" if state in _CLAIMED else f"the run is {state}"
    if ended and (state not in FINISHED or end_us is None or end_us < now_us() - _LAST_LINES_US):
        raise _expired(token, ended)
    return RunScope(token, tenant_id, flow_id, flow_group_id, project_id, ended)


def _expired(token: RunToken, why: str) -> Refused:
    text = f"UNAUTHENTICATED: the token of flow run {token.flow_run_id} is no longer valid: {why}"
    return Refused(text, UNAUTHENTICATED)


def _of_run(given: Input) -> _Concerns:
    return _Concerns(flow_runs=[given["flow_run_id"]])


def _of_task_run(given: Input) -> _Concerns:
    return _Concerns(task_runs=[given["task_run_id"]])


def _of_artifact(given: Input) -> _Concerns:
    return _Concerns(artifacts=[given["task_run_artifact_id"]])


def _of_lines(given: Input) -> _Concerns:
    logs = given["logs"]
    lines = [logs] if isinstance(logs, dict) else logs
    task_runs = [line["task_run_id"] for line in lines if line.get("task_run_id") is not None]
    return _Concerns(flow_runs=[line["flow_run_id"] for line in lines], task_runs=task_runs)


#: The operations that an engine makes about its own run, and what they concern.
RUN_OPERATIONS: Mapping[str, Callable[[Input], _Concerns]] = {
    "set_flow_run_states": lambda given: _Concerns(flow_runs=[one["flow_run_id"] for one in given["states"]]),
    "set_task_run_states": lambda given: _Concerns(task_runs=[one["task_run_id"] for one in given["states"]]),
    "get_or_create_task_run": _of_run,
    "get_or_create_task_run_info": _of_run,
    "set_flow_run_name": _of_run,
    "set_task_run_name": _of_task_run,
    "update_flow_run_heartbeat": _of_run,
    "update_task_run_heartbeat": _of_task_run,
    "cancel_flow_run": _of_run,
    "write_run_logs": _of_lines,
    "create_task_run_artifact": _of_task_run,
    "update_task_run_artifact": _of_artifact,
    "delete_task_run_artifact": _of_artifact,
}
#: {table: {column: attribute of RunScope that it must equal}}.
_BELONGS: Mapping[str, Mapping[str, str]] = {
    "tenant": {"id": "tenant_id"},
    "project": {"id": "project_id"},
    "flow_group": {"id": "flow_group_id"},
    "flow": {"id": "flow_id"},
    "task": {"flow_id": "flow_id"},
    "edge": {"flow_id": "flow_id"},
    "flow_run": {"id": "flow_run_id"},
    "flow_run_attempt": {"flow_run_id": "flow_run_id"},
    "flow_run_state": {"flow_run_id": "flow_run_id"},
    "task_run": {"flow_run_id": "flow_run_id"},
    "log": {"flow_run_id": "flow_run_id"},
    "text_so_far": {"flow_run_id": "flow_run_id"},
}
