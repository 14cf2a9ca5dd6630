"""What an agent asks of the place where its flow runs live.

`Elsewhere` is for agents that only hand flow runs to another platform and keep nothing; the platform of a `LocalAgent`
is flowherd.host.host.Host.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from flowherd.agent.health import ClaimPause
from flowherd.agent.run_records import NoRecords, RunRecords
from flowherd.agent.shutdown import ShutdownRequest, ShutdownWait
from flowherd.backends.protocol import ServerCapabilities
from flowherd.config import LoadedSettings
from flowherd.states import RunState
from flowherd.values import FlowRun, Wake


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A flow run that is prepared, and perhaps claimed, and was not started."""

    flow_run_id: str
    #: The claim token that the claim carries, if it was made.
    claim: str
    #: Id of the task run that carries the claim; empty if the flow run itself does.
    claimed_via_task_run: str = ""
    #: Whether an earlier agent prepared it. Otherwise only the agent's own `deploy_flow` may start it: a subclass may
    #: have started it in a way of its own.
    by_earlier_agent: bool = True


@dataclass(frozen=True, kw_only=True)
class Figures:
    """How much there is to do, for the agent's API."""

    #: Number of runs that have not ended.
    runs: int
    #: Highest number of runs at the same time; None means no limit.
    limit: int | None = None
    #: Labels of which no more runs are taken now (agent.label_limits), each with its limit.
    full_labels: Mapping[str, int] = field(default_factory=dict)
    #: Bytes of output that the backend does not have yet.
    spool_bytes: int = 0
    #: How many may wait before nothing more is claimed; None for any number.
    spool_most_bytes: int | None = None
    #: Memory of the agent's own cgroup, with its fork servers, bytes; None if it has none beside those of runs.
    own_memory_bytes: int | None = None
    #: What fork servers are importing: interpreter, module, seconds, and the ids of the runs that wait for it.
    preloading: Sequence[Mapping[str, Any]] = ()


class Platform(Protocol):
    """Where an agent's flow runs are prepared, deployed and looked after. Methods are called from several threads."""

    @property
    def identity(self) -> str:
        """Who the agent is in its claim tokens; the same after a restart if the platform keeps anything."""
        ...

    @property
    def state_dir(self) -> Path | None:
        """Directory for the agent's control socket and pause mark; None if the platform keeps nothing."""
        ...

    def open(self) -> None:
        """Adopt what is there; does nothing when called again."""
        ...

    def connected(self, capabilities: ServerCapabilities) -> None:
        """Learn what the backend can do; called once, after the first contact."""
        ...

    def prepare(self, flow_run: FlowRun, claim: str) -> None:
        """Get ready for a claim, before it is made. Raises ClaimLost when the host has no room for the flow run."""
        ...

    def abandon(self, flow_run_id: str) -> None:
        """Undo `prepare`: the claim failed."""
        ...

    def deploy(self, flow_run: FlowRun) -> str:
        """Start a claimed flow run and return in a few words where it is."""
        ...

    def fail(self, flow_run: FlowRun, error: BaseException) -> bool:
        """Conclude a run that could not be started. Returns False if it is not known here; the agent reports it."""
        ...

    def note(self, flow_run: FlowRun, text: str, level: int) -> bool:
        """Add a line to a run's log. Returns False if the run is not known here; the agent then writes the line."""
        ...

    def unfinished(self) -> Sequence[Prepared]:
        """Return what is prepared and was not started, mostly by an agent that is gone."""
        ...

    def start_prepared(self, flow_run_id: str) -> None:
        """Start a flow run of `unfinished` whose claim is known to hold."""
        ...

    def fail_prepared(self, flow_run_id: str, error: BaseException) -> None:
        """Conclude a flow run of `unfinished` that is not to be started any more."""
        ...

    def holds(self, flow_run_id: str) -> bool:
        """Return whether the flow run lives here already."""
        ...

    def room(self, deploying: Collection[str]) -> int | None:
        """Return for how many more runs there is room, besides those that are being deployed; None means any number."""
        ...

    def labels_of_living(self) -> Mapping[str, Sequence[str]]:
        """Return the labels of the runs that live here, by their ids."""
        ...

    def pause_reason(self) -> ClaimPause | None:
        """Return why the platform cannot take more runs now; None if it can."""
        ...

    def tick(self, silent_s: float) -> None:
        """Do regular work; called before each poll. `silent_s`: seconds without an answer, 0.0 while polls succeed."""
        ...

    def woken(self, wake: Wake) -> None:
        """Learn that the backend has something for this agent."""
        ...

    def figures(self) -> Figures:
        """Return how much there is to do."""
        ...

    def living_runs(self, looked_at: Collection[str] = ()) -> list[dict[str, Any]]:
        """Return one object for each run that has not ended, with the fields of `RunFigures` (story/live.py).

        Those in `looked_at` have a list of their processes.
        """
        ...

    def belongs_to(self, pid: int) -> str | None:
        """Return what a process of this host belongs to, as in "flow run ID"; None if to no run."""
        ...

    @property
    def records(self) -> RunRecords:
        """The runs of this host, for the agent's pages."""
        ...

    def reload(self, loaded: LoadedSettings, changed: Collection[str]) -> dict[str, str]:
        """Use these settings from now on, of which `changed` differ from those before.

        Returns why single settings cannot be used, by their names; those stay as they were.
        """
        ...

    def begin_closing(self) -> None:
        """Start no more runs: the agent is stopping. A start that waits for something raises AgentStopping."""
        ...

    def shut_down(self, request: ShutdownRequest, wait: ShutdownWait) -> None:
        """Leave, drain or end the runs, as `request` says, and deliver what can be delivered soon."""
        ...

    def close(self) -> None:
        """Stop what `open` started. The runs go on."""
        ...


class Elsewhere:
    """The platform of an agent that deploys flow runs to another place and keeps nothing about them.

    `deploying` is the agent's own set of the flow runs that are being deployed now.
    """

    def __init__(self, deploying: Collection[str]) -> None:
        self._deploying = deploying
        self.identity = uuid.uuid4().hex
        self.state_dir: Path | None = None
        self.records: RunRecords = NoRecords()

    def open(self) -> None:
        """Nothing to adopt."""

    def connected(self, capabilities: ServerCapabilities) -> None:
        """Nothing depends on it."""

    def prepare(self, flow_run: FlowRun, claim: str) -> None:
        """Nothing to write down."""

    def abandon(self, flow_run_id: str) -> None:
        """Nothing was written down."""

    def deploy(self, flow_run: FlowRun) -> str:
        """Raise NotImplementedError: only `Agent.deploy_flow` of a subclass knows where flow runs go."""
        raise NotImplementedError(f"no platform here can run flow run {flow_run.id}")

    def fail(self, flow_run: FlowRun, error: BaseException) -> bool:
        """Leave the report to the agent."""
        return False

    def note(self, flow_run: FlowRun, text: str, level: int) -> bool:
        """Leave the line to the agent."""
        return False

    def unfinished(self) -> Sequence[Prepared]:
        """Return nothing: nothing is kept."""
        return ()

    def start_prepared(self, flow_run_id: str) -> None:
        """Never called: nothing is unfinished."""

    def fail_prepared(self, flow_run_id: str, error: BaseException) -> None:
        """Never called: nothing is unfinished."""

    def holds(self, flow_run_id: str) -> bool:
        """Return False: nothing is kept."""
        return False

    def room(self, deploying: Collection[str]) -> int | None:
        """Return None: the other platform queues what it cannot run yet."""
        return None

    def labels_of_living(self) -> Mapping[str, Sequence[str]]:
        """Return nothing: nothing is kept."""
        return {}

    def pause_reason(self) -> ClaimPause | None:
        """Return None."""
        return None

    def tick(self, silent_s: float) -> None:
        """No regular work."""

    def woken(self, wake: Wake) -> None:
        """No runs to end."""

    def figures(self) -> Figures:
        """Count the runs that are being deployed; what was deployed is not known any more."""
        return Figures(runs=len(self._deploying))

    def living_runs(self, looked_at: Collection[str] = ()) -> list[dict[str, Any]]:
        """Return the runs that are being deployed."""
        return [{"id": run_id, "state": RunState.SUBMITTED.value} for run_id in sorted(self._deploying)]

    def belongs_to(self, pid: int) -> str | None:
        """Return None: no run is here."""
        return None

    def reload(self, loaded: LoadedSettings, changed: Collection[str]) -> dict[str, str]:
        """Refuse nothing: no setting concerns flow runs elsewhere."""
        return {}

    def begin_closing(self) -> None:
        """Nothing is started here."""

    def shut_down(self, request: ShutdownRequest, wait: ShutdownWait) -> None:
        """No runs to leave or end."""

    def close(self) -> None:
        """Nothing to stop."""
