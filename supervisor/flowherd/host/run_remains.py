"""What is left of an ended run beside its files: its runner, which may still be ending, and its cgroup."""

from __future__ import annotations

from signal import SIGKILL

from flowherd.host.processes import cgroups
from flowherd.host.run import Run
from flowherd.host.store.survivors import Survivor, survivor

#: How long a runner that has recorded the end may take to end itself, seconds; usually a millisecond.
_RUNNER_END_S = 1.0


def clear_remains(run: Run) -> list[Survivor]:
    """See to it that the runner has ended, and clear the cgroup as `clear_cgroup` does. May be called again."""
    runner = run.runner
    if runner is not None:
        if not runner.wait(_RUNNER_END_S):
            run.log.warning("The runner (pid {}) did not end after the run; killing it", runner.pid, action="clear")
            runner.send(SIGKILL)
            runner.wait(_RUNNER_END_S)
        runner.close()
    return clear_cgroup(run)


def clear_cgroup(run: Run) -> list[Survivor]:
    """Kill what the searches of runner and agent have missed, remove the cgroup, and return what lives nevertheless."""
    strays, left = cgroups.clear(run.cgroup) if run.cgroup is not None else (0, [])
    if strays > len(left):
        run.log.warning("Killed {} processes that were left in the run's cgroup", strays - len(left), action="clear")
    return [found for pid in left if (found := survivor(pid)) is not None]
