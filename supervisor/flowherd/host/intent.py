"""Flow runs that are written down before they are claimed, and whose runner was not started yet."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from flowherd.engines.plan import outline
from flowherd.errors import BackendUnavailable, ClaimLost
from flowherd.host.processes.cgroups import Cgroups
from flowherd.host.processes.flock import FORK_LOCK
from flowherd.host.run import Run
from flowherd.host.store.state_directory import StateDirectory
from flowherd.values import FlowRun
from flowherd_runner.contract.spec import RunSpec


@dataclass(kw_only=True)
class Intent:
    """A run that is written down, and the descriptor that holds its lock until a runner does."""

    run: Run
    lock_fd: int | None
    #: Whether an earlier agent wrote it down.
    by_earlier_agent: bool = False

    def release(self) -> None:
        """Let the lock go, unless a runner has it too."""
        if self.lock_fd is not None:
            os.close(self.lock_fd)
            self.lock_fd = None

    def lock_again(self) -> bool:
        """Take the lock anew and return whether it is ours alone: no living runner has it."""
        with FORK_LOCK:  # a fork server that is being started would look like the runner
            self.release()
            self.lock_fd = self.run.directory.try_lock()
        return self.lock_fd is not None

    def cancel(self) -> None:
        """Remove the run's directory."""
        self.run.directory.remove()
        self.release()


def write_intent(
    flow_run: FlowRun,
    claim: str,
    state: StateDirectory,
    cgroups: Cgroups | None,
    describe: Callable[[FlowRun, str], RunSpec],
    changed: Callable[[], None],
) -> Intent:
    """Plan the flow run and write its directory, synced, with the lock held.

    `describe` plans the run, for its claim's token. A flow run that this agent cannot run is written down all the same,
    so that its end can say why. `changed` is called when the run has something for the backend.

    Raises OSError or RunDirectoryDamaged when the directory cannot be made, ClaimLost when the plan needs a backend
    that does not answer now: the run is then left to a later poll.
    """
    failure: Exception | None = None
    try:
        spec = describe(flow_run, claim)
    except BackendUnavailable as error:
        raise ClaimLost(f"not claimed: {error}") from error
    except Exception as error:  # UnsupportedStorage, or raised by an overridden method of the agent's class
        spec, failure = outline(flow_run, claim), error
    if cgroups is not None:
        spec = spec._replace(cgroup=str(cgroups.path_for(flow_run.id, spec.agent.attempt)))
    directory = state.run_directory(flow_run.id)
    lock_fd = directory.create(spec)
    run = Run(directory, spec, changed)
    run.failure = failure
    return Intent(run=run, lock_fd=lock_fd)
