"""Flow runs that are written down before they are claimed, and whose runner was not started yet."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple

from flowherd.engines.plan import outline
from flowherd.errors import BackendUnavailable, ClaimLost
from flowherd.host.processes import cgroups
from flowherd.host.processes.flock import FORK_LOCK
from flowherd.host.processes.fork_server import ForkServer
from flowherd.host.processes.hand_over import HandOver
from flowherd.host.run import Run
from flowherd.host.store.state_directory import StateDirectory
from flowherd.values import FlowRun
from flowherd_runner.contract.spec import RunSpec

#: Pause between two looks whether a lock is free, seconds.
_LOCK_LOOK_S = 0.001


class RunCgroup(NamedTuple):
    """The cgroup for one start of a run."""

    path: str
    #: Called if the run is not handed over after all, and another one can have it; None if it is this run's only.
    give_back: Callable[[], None] | None = None


class Ahead(NamedTuple):
    """A run that was handed over before it is claimed, and the fork server that it was handed to."""

    server: ForkServer
    handed: HandOver


@dataclass(kw_only=True)
class Intent:
    """A run that is written down, and the descriptor that holds its lock until a runner does."""

    run: Run
    lock_fd: int | None
    #: Whether an earlier agent wrote it down.
    by_earlier_agent: bool = False
    #: The runner that prepares it already and waits for the claim; None if there is none.
    ahead: Ahead | None = None
    #: Gives back the cgroup that was reserved for the run, until the run is handed over.
    give_back: Callable[[], None] | None = None
    _taking: Lock = field(default_factory=Lock)

    def take_ahead(self) -> Ahead | None:
        """Take the runner that waits, if there is one; what becomes of it is the caller's matter."""
        with self._taking:
            ahead, self.ahead = self.ahead, None
        return ahead

    def withdraw(self) -> None:
        """Have the runner that waits end, and wait a moment for that. The run stays written down."""
        if (ahead := self.take_ahead()) is not None:
            ahead.handed.withdraw()

    def release(self) -> None:
        """Let the lock go, unless a runner has it too; one that waits for the claim ends, and lets it go as well."""
        if (ahead := self.take_ahead()) is not None:
            ahead.handed.close()
        if self.lock_fd is not None:
            os.close(self.lock_fd)
            self.lock_fd = None

    def lock_again(self, wait_s: float = 0.0) -> bool:
        """Take the lock anew and return whether it is ours alone: no living runner has it, or not after `wait_s`."""
        deadline_s = time.monotonic() + wait_s
        while True:
            with FORK_LOCK:  # a fork server that is being started would look like the runner
                self.release()
                self.lock_fd = self.run.directory.try_lock()
            if self.lock_fd is not None or time.monotonic() >= deadline_s:
                return self.lock_fd is not None
            time.sleep(_LOCK_LOOK_S)

    def cancel(self) -> None:
        """Remove the run's directory, and its cgroup."""
        self.withdraw()
        if self.give_back is not None:
            self.give_back()
        elif self.run.cgroup is not None:
            cgroups.clear(self.run.cgroup)
        self.run.directory.remove()
        self.release()


def write_intent(
    flow_run: FlowRun,
    claim: str,
    state: StateDirectory,
    cgroup_for: Callable[[RunSpec], RunCgroup | None],
    describe: Callable[[FlowRun, str], RunSpec],
    changed: Callable[[], None],
) -> Intent:
    """Plan the flow run and write its directory, synced, with the lock held.

    `describe` plans the run, for its claim's token. A flow run that this agent cannot run is written down all the same,
    so that its end can say why. `cgroup_for` returns where the run is to be, `changed` is called when it
    has something for the backend.

    Raises OSError or RunDirectoryDamaged when the directory cannot be made, ClaimLost when the plan needs a backend
    that does not answer now: the run is then left to a later poll.
    """
    failure: Exception | None = None
    own: RunCgroup | None = None
    try:
        spec = describe(flow_run, claim)
    except BackendUnavailable as error:
        raise ClaimLost(f"not claimed: {error}") from error
    except Exception as error:  # UnsupportedStorage, or raised by an overridden method of the agent's class
        spec, failure = outline(flow_run, claim), error
    else:
        own = cgroup_for(spec)
    give_back = None
    if own is not None:
        spec, give_back = spec._replace(cgroup=own.path), own.give_back
    directory = state.run_directory(flow_run.id)
    try:
        lock_fd = directory.create(spec, state.blanks.take)
    except BaseException:
        if give_back is not None:
            give_back()
        raise
    run = Run(directory, spec, changed)
    run.failure = failure
    return Intent(run=run, lock_fd=lock_fd, give_back=give_back)
