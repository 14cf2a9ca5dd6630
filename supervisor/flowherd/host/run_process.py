"""The process of one flow run, with those names of `subprocess.Popen` that subclasses of an agent use."""

from __future__ import annotations

import subprocess
import time

from flowherd.host.run import Run
from flowherd_runner.contract import reasons

#: Exit status of a run whose process left none: its runner was lost, or the flow was never started.
UNKNOWN_STATUS = -1
#: Time between two looks of `wait`, seconds.
_LOOK_S = 0.05


class RunProcess:
    """A flow run of this host, as one of `LocalAgent.processes`. Two of one run are equal."""

    def __init__(self, run: Run) -> None:
        self._run = run
        #: The exit status as of the latest `poll`: None while the run goes on, negative after a signal.
        self.returncode: int | None = None

    @property
    def flow_run_id(self) -> str:
        """Id of the flow run."""
        return self._run.id

    @property
    def pid(self) -> int | None:
        """Pid of the flow process; that of its runner until the flow process is known."""
        return self._run.flow_pid or (self._run.runner.pid if self._run.runner is not None else None)

    def poll(self) -> int | None:
        """Return the exit status of the flow process; None while the run goes on.

        A run counts as ended once its end is concluded, so all of its processes are gone then.
        """
        if self.returncode is None and self._run.ended:
            self.returncode = self._run.exit_status if self._run.exit_status is not None else UNKNOWN_STATUS
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the run and return its exit status. Raises subprocess.TimeoutExpired."""
        deadline_s = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if timeout is not None and deadline_s is not None and time.monotonic() > deadline_s:
                raise subprocess.TimeoutExpired(["flow run", self._run.id], timeout)
            time.sleep(_LOOK_S)
        return status

    def terminate(self) -> None:
        """End the run as a cancellation does: it is asked to end, and killed after its grace time."""
        self._run.ask_to_stop(reasons.REASON_CANCELLED, "The flow run was ended by its agent's own code.")

    def kill(self) -> None:
        """End the run with all its processes at once."""
        self._run.ask_to_stop(reasons.REASON_CANCELLED, "The flow run was ended by its agent's own code.", 0.0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunProcess) and other._run is self._run

    def __hash__(self) -> int:
        return hash(self._run.id)

    def __repr__(self) -> str:
        return f"<RunProcess of flow run {self._run.id}, pid {self.pid}, status {self.returncode}>"
