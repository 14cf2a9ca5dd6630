"""Takes in the flow runs that polls find and that the backend offers by itself, each of them once.

A poll and an offer can name the same flow run at the same moment. The claim would not stop the second start, because
its token is the agent's own; so both pass through `admit`, which lets one of them have the run.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future

from flowherd.agent.connection import Connection
from flowherd.agent.deploy_many import DeployMany, in_batches
from flowherd.agent.label_limits import LabelLimits
from flowherd.agent.platform import Platform
from flowherd.agent.worker_threads import WorkerThreads
from flowherd.values import FlowRun, deciding_task_run

#: Number of flow runs whose claimed version is remembered. What is read of a run before its claim is used within
#: seconds, and no host starts as many in that time.
_REMEMBERED = 4096


class Intake:
    """The flow runs that are being deployed.

    `deploying` is the agent's set of their ids; `ended` is called when the attempt to deploy one is over.
    """

    def __init__(
        self,
        connection: Connection,
        deploying: set[str],
        platform: Callable[[], Platform],
        deploy_many: DeployMany,
        label_limits: LabelLimits,
        ended: Callable[[Future[None], str], None],
    ) -> None:
        self._connection = connection
        self._deploying = deploying
        self._platform = platform
        self._deploy_many = deploy_many
        self._label_limits = label_limits
        self._ended = ended
        self._lock = threading.Lock()
        #: The versions at which flow runs, or the task runs that decide, were claimed, each with the server's life, as
        #: another one may have an older copy of its data. The oldest first.
        self._claimed: dict[str, tuple[int, int]] = {}

    def is_new(self, flow_run: FlowRun) -> bool:
        """Return whether the agent neither has the flow run nor deploys it, and has not claimed this version of it."""
        if flow_run.id in self._deploying or self._platform().holds(flow_run.id):
            return False
        decides, version = _version(flow_run)
        epoch, claimed = self._claimed.get(decides, (None, None))
        return version is None or claimed is None or version > claimed or epoch != self._connection.epoch

    def admit(self, flow_runs: Sequence[FlowRun]) -> list[FlowRun]:
        """Begin to deploy those that are new and for which there is room; the others are left out.

        `submit`, `submit_many` or `deploy_soon` must follow for those that are returned.
        """
        with self._lock:
            room = self._platform().room(self._deploying)
            admitted = self._label_limits.admit([one for one in flow_runs if self.is_new(one)][:room], self._deploying)
            self._deploying.update(one.id for one in admitted)
            return admitted

    def note_claimed(self, flow_run: FlowRun) -> None:
        """Note that the flow run is claimed: who has read it as it was before comes too late.

        Its version is remembered only of servers that offer runs by themselves; at others the polls alone find runs,
        one after the other.
        """
        self._connection.measures.claimed(flow_run)
        decides, version = _version(flow_run)
        if version is None or not self._connection.shares:
            return
        with self._lock:
            self._claimed.pop(decides, None)
            self._claimed[decides] = self._connection.epoch, version
            if len(self._claimed) > _REMEMBERED:
                del self._claimed[next(iter(self._claimed))]

    def submit(self, executor: Executor, flow_run_id: str, work: Callable[[], None]) -> None:
        """Do `work`, which deploys the flow run, in another thread. Raises RuntimeError when the agent stops."""
        self._deploying.add(flow_run_id)
        try:
            future = executor.submit(work)
        except RuntimeError:  # the executor is shutting down
            self._deploying.discard(flow_run_id)
            raise
        future.add_done_callback(lambda done: self._ended(done, flow_run_id))

    def submit_many(self, executor: Executor, flow_runs: Sequence[FlowRun]) -> None:
        """Claim and deploy these in another thread, with one request. Raises RuntimeError when the agent stops."""
        self._begin(flow_runs, lambda attempts: executor.submit(self._deploy_many.run, flow_runs, attempts, executor))

    def deploy_here(self, executor: WorkerThreads, flow_runs: Sequence[FlowRun]) -> None:
        """Claim these with one request and deploy the first in this thread; does nothing when the agent stops."""
        many = self._deploy_many
        with contextlib.suppress(RuntimeError):
            self._begin(flow_runs, lambda attempts: executor.run(many.run, flow_runs, attempts, executor))

    def deploy_soon(self, executor: WorkerThreads, flow_runs: Sequence[FlowRun]) -> None:
        """Claim and deploy these: one in this thread if no other is being deployed, else as `submit_many` does.

        Does nothing when the agent stops.
        """
        if len(flow_runs) == 1 and executor.is_idle():
            self.deploy_here(executor, flow_runs)
            return
        with contextlib.suppress(RuntimeError):
            for batch in in_batches(flow_runs):
                self.submit_many(executor, batch)

    def _begin(self, flow_runs: Sequence[FlowRun], begin: Callable[[Mapping[str, Future[None]]], object]) -> None:
        attempts: dict[str, Future[None]] = {flow_run.id: Future() for flow_run in flow_runs}
        self._deploying.update(attempts)
        for run_id, attempt in attempts.items():
            attempt.add_done_callback(lambda done, run_id=run_id: self._ended(done, run_id))  # type: ignore[misc]
        try:
            begin(attempts)
        except RuntimeError:  # the executor is shutting down
            self._deploying.difference_update(attempts)
            raise


def _version(flow_run: FlowRun) -> tuple[str, int | None]:
    """Return what decides who has the flow run, and the version at which that is claimed."""
    task_run = deciding_task_run(flow_run)
    return (flow_run.id, flow_run.version) if task_run is None else (task_run.id, task_run.version)
