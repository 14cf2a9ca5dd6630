"""The flow run that an agent is to deploy, with its flow and task runs: objects and dicts at once.

Keys and values are those of the rows of the Prefect 0.x/1.x API, so that code which reads such a row works on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flowherd.attribute_dict import AttributeDict
from flowherd.states import RunState


class Flow(AttributeDict):
    """The flow that a flow run executes."""

    __slots__ = ()

    id: str
    name: str
    version: int | None
    #: Location of the code, as the dialect describes it: {"type": ..., ...}.
    storage: AttributeDict
    #: How to run the flow: {"type": ..., "env": ..., "working_dir": ..., ...}; None means all defaults.
    run_config: AttributeDict | None
    #: Counterpart of run_config in the older dialect.
    environment: AttributeDict | None
    #: Version of Prefect that registered the flow; None if Prefect did not, or the server does not know.
    core_version: str | None
    #: Names of all parameters that the flow takes; None if they are not known, or it takes any.
    parameter_names: tuple[str, ...] | None

    def __init__(
        self,
        *,
        id: str,
        name: str,
        version: int | None = None,
        storage: Mapping[str, Any] | None = None,
        run_config: Mapping[str, Any] | None = None,
        environment: Mapping[str, Any] | None = None,
        core_version: str | None = None,
        parameter_names: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(id=id, name=name, version=version, storage=storage if storage is not None else {})
        self.update(run_config=run_config, environment=environment, core_version=core_version)
        self["parameter_names"] = parameter_names


class TaskRun(AttributeDict):
    """A task run that waits until its flow run is started again."""

    __slots__ = ()

    id: str
    task_id: str
    version: int
    serialized_state: AttributeDict

    def __init__(self, *, id: str, task_id: str, version: int, serialized_state: Mapping[str, Any]) -> None:
        super().__init__(id=id, task_id=task_id, version=version, serialized_state=serialized_state)


class FlowRun(AttributeDict):
    """A flow run as the backend handed it out. What a subclass changes in it changes nothing at the backend."""

    __slots__ = ()

    id: str
    name: str
    #: Version of the state, for the claim's optimistic lock.
    version: int
    state: RunState
    serialized_state: AttributeDict
    flow: Flow
    parameters: AttributeDict
    #: Run config of this run; takes precedence over the flow's.
    run_config: AttributeDict | None
    #: When the run was first due, in ISO 8601.
    scheduled_start_time: str | None
    #: Labels that an agent must have to claim the run.
    labels: tuple[str, ...]
    #: Task runs that wait and are due; a run that is already Running is handed out only because of them.
    task_runs: list[TaskRun]

    def __init__(
        self,
        *,
        id: str,
        name: str,
        version: int,
        state: RunState,
        serialized_state: Mapping[str, Any],
        flow: Flow,
        parameters: Mapping[str, Any] | None = None,
        run_config: Mapping[str, Any] | None = None,
        scheduled_start_time: str | None = None,
        labels: Sequence[str] = (),
        task_runs: Sequence[TaskRun] = (),
    ) -> None:
        super().__init__(id=id, name=name, version=version, state=state, serialized_state=serialized_state, flow=flow)
        self.update(parameters=parameters if parameters is not None else {}, run_config=run_config)
        self.update(scheduled_start_time=scheduled_start_time, labels=tuple(labels), task_runs=list(task_runs))


def as_flow_run(row: Any) -> FlowRun:
    """Return a flow run; a row that a subclass has read from the API itself is completed by defaults.

    Raises ValueError for what is not a flow run: it has no id, or no known state.
    """
    if isinstance(row, FlowRun):
        return row
    if not isinstance(row, Mapping) or not isinstance(row.get("id"), str):
        raise ValueError(f"not a flow run, because it has no id: {row!r:.200}")
    given = _without_none(row)
    flow = Flow(id="", name="")
    flow.update(_without_none(given.get("flow", {})))
    serialized_state = given.get("serialized_state", {})
    state = RunState(given.get("state") or serialized_state.get("type") or RunState.SCHEDULED)
    run = FlowRun(id=row["id"], name=row["id"], version=0, state=state, serialized_state=serialized_state, flow=flow)
    run.update({key: value for key, value in given.items() if key not in ("state", "flow", "task_runs")})
    run["task_runs"] = [_task_run(one) for one in given.get("task_runs", ())]
    return run


def _task_run(row: Mapping[str, Any]) -> TaskRun:
    task_run = TaskRun(id="", task_id="", version=0, serialized_state={})
    task_run.update(_without_none(row))
    return task_run


def _without_none(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value is not None}
