"""What is left of an ended run beside its records: its runner, which may still be ending, cgroup and private /tmp."""

from __future__ import annotations

from signal import SIGKILL

from flowherd.host.processes import cgroups
from flowherd.host.run import Run
from flowherd.host.store.survivors import Survivor, survivor

#: How long a runner that has recorded the end may take to end itself, seconds; usually a millisecond.
_RUNNER_END_S = 1.0


def clear_remains(run: Run) -> list[Survivor]:
    """See to it that the runner has ended, and clear the rest; return what `clear_cgroup` does. May be called again."""
    runner = run.runner
    if runner is not None:
        if not runner.wait(_RUNNER_END_S):
            run.log.warning("The runner (pid {}) did not end after the run; killing it", runner.pid, action="clear")
            runner.send(SIGKILL)
            runner.wait(_RUNNER_END_S)
        runner.close()
    left = clear_cgroup(run)
    _remove_private_directory(run)
    return left


def clear_cgroup(run: Run) -> list[Survivor]:
    """Kill what the searches of runner and agent have missed, remove the cgroup, and return what lives nevertheless."""
    strays, left = cgroups.clear(run.cgroup) if run.cgroup is not None else (0, [])
    if strays > len(left):
        run.log.warning("Killed {} processes that were left in the run's cgroup", strays - len(left), action="clear")
    return [found for pid in left if (found := survivor(pid)) is not None]


def _remove_private_directory(run: Run) -> None:
    """Remove what the run had in its own /tmp and /var/tmp; also if its directory is kept."""
    remains = run.directory.remove_private()
    if remains is not None:
        run.log.warning("Cannot remove the run's own /tmp: {}", "; ".join(remains.reasons), action="clear")
