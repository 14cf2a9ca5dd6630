"""The processes of a run that has a pid namespace of its own: nothing can leave it, and one kill ends all of it.

They are the descendants of the runner, because orphans become children of the namespace's init process, which is a
child of the runner. The init process itself is the runner's and not one of the run.
"""

from typing import List, Optional

from flowherd_runner.isolation.init_process import InitProcess
from flowherd_runner.run_processes import Process, RunProcesses, living


def processes_of(run_id: str, init: Optional[InitProcess]) -> RunProcesses:
    """Return the processes of the run, whose namespace has that init process; None if it has no namespace."""
    return RunProcesses(run_id) if init is None else NamespaceProcesses(run_id, init)


class NamespaceProcesses(RunProcesses):
    """The processes of the run `run_id` in the namespace of `init`."""

    searches_host = False

    def __init__(self, run_id: str, init: InitProcess) -> None:
        super().__init__(run_id)
        self._init = init
        #: Whether the init process was killed, and whether it was waited for.
        self._killed = False
        self._reaped = False

    def all_members(self) -> List[Process]:
        """Return all living processes of the run, except the runner and the init process."""
        table = {process.pid: process for process in living()}
        return [table[pid] for pid in sorted(self.descendants(table)) if pid != self._init.pid]

    def kill_all(self) -> List[Process]:
        """Kill the namespace, and return the members that were found in it before."""
        found = self.members()
        self._kill_init()
        return found

    def any_left(self) -> bool:
        """Whether a process of the run is left, once the flow process has ended and this process has other children.

        "No" is certain. A child of the runner that a process of the run has made (clone(2), CLONE_PARENT) is left until
        it is waited for. So if there is none, there was none either when the init process had no child before.
        """
        if self._killed or self._reaped:
            return True
        try:
            return bool(self._init.orphans()) or self.child_pids() != [self._init.pid]
        except OSError:  # a kernel without CONFIG_PROC_CHILDREN
            return bool(self.all_members())

    def note_reaped(self, pid: int) -> None:
        """Take note that a child of the runner was waited for, so that its pid may be another's."""
        self._reaped = self._reaped or pid == self._init.pid

    def end_place(self) -> bool:
        """End the namespace, unless it has ended."""
        self._kill_init()
        return not self._reaped

    def _kill_init(self) -> None:
        if not self._reaped:
            self._killed = True
            self._init.kill()
