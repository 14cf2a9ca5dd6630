"""The processes of one run: finds all that are left, and signals them.

A run's processes are the runner's descendants (it is a sub-reaper, so orphans become its children), the members of its
session, and all that carry the run's id in their environment. Does not decide when they end.
"""

import os
import signal
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from flowherd_runner.contract.identity import boot_id, may_not_signal, members_by_variable, user_of

#: Maximum rounds of stopping what has appeared since the last one, before those that were stopped are killed.
_FREEZE_ROUNDS = 100


class Process(NamedTuple):
    """A process at the moment of looking, from /proc/PID/stat (proc(5))."""

    pid: int
    name: str
    parent: int
    group: int
    session: int
    start_ticks: int

    @property
    def key(self) -> Tuple[int, int]:
        """Identifies the process among all of this boot."""
        return self.pid, self.start_ticks


class RunProcesses:
    """The processes of the run `run_id`, whose runner is this process."""

    #: Whether all processes of the host are looked at; if not, the agent does that.
    searches_host = True

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._runner = os.getpid()
        self._session = os.getsid(0)
        own = _read(self._runner)
        self._since = own.start_ticks if own else 0
        #: Whether the last look found members that do not descend from the runner.
        self.outsiders = False
        #: Processes that could not be signalled; only a change of user explains that.
        self._refused: Set[Tuple[int, int]] = set()

    def members(self) -> List[Process]:
        """Return all living processes of the run, except the runner and those that could not be signalled before."""
        return [process for process in self.all_members() if process.key not in self._refused]

    def survivors(self) -> List[Process]:
        """Return all living processes of the run except the runner: after the killing, those that could not be ended.

        Children that /proc does not show (mounted with hidepid=, proc(5)) are among them, without a name.
        """
        found = {process.pid: process for process in self.all_members()}
        for pid in self.child_pids():
            if pid not in found and may_not_signal(pid):
                found[pid] = Process(pid, "?", self._runner, 0, 0, 0)
        return [found[pid] for pid in sorted(found)]

    def all_members(self) -> List[Process]:
        """Return all living processes of the run, except the runner."""
        table = {process.pid: process for process in living()}
        found = self.descendants(table)
        descendants = len(found)
        found.update(pid for pid, process in table.items() if process.session == self._session)
        younger = [pid for pid, process in table.items() if pid not in found and process.start_ticks >= self._since]
        found.update(members_by_variable(self._run_id, younger))
        found.discard(self._runner)
        self.outsiders = len(found) > descendants
        return [table[pid] for pid in sorted(found)]

    def send(self, processes: Iterable[Process], number: int) -> None:
        """Send the signal to each of `processes` that still lives."""
        for process in processes:
            try:
                os.kill(process.pid, number)
            except ProcessLookupError:
                continue
            except PermissionError:
                self._refused.add(process.key)

    def kill_all(self) -> List[Process]:
        """Kill every member, and return those that were found.

        All are stopped before any is killed, because processes that start others could outrun the killing. Children are
        looked at first: a process that starts another and ends would be gone before a look at all processes reaches it.
        """
        stopped: Dict[Tuple[int, int], Process] = {}
        for _ in range(_FREEZE_ROUNDS):
            running = [one for one in self.children() if one.key not in stopped]
            running = running or [one for one in self.members() if one.key not in stopped]
            if not running:
                break
            self.send(running, signal.SIGSTOP)
            stopped.update((one.key, one) for one in running)
        self.send(stopped.values(), signal.SIGKILL)
        return list(stopped.values())

    def children(self) -> List[Process]:
        """Return the runner's living children, orphans of the run included, except those that could not be signalled.

        A quick look, which may miss one that appears at this moment; only wait4(2) knows that there is none.
        """
        found = [_read(pid) for pid in self.child_pids()]
        return [process for process in found if process is not None and process.key not in self._refused]

    def any_left(self) -> bool:
        """Whether a process of the run is left, once the flow process has ended and this process has other children."""
        return True

    def note_reaped(self, pid: int) -> None:
        """Take note that a child of the runner was waited for, so that its pid may be another's."""

    def end_place(self) -> bool:
        """End what the runner has made for the run's processes to live in, and return whether its end is to be reaped.

        Called when they have ended, or could not be ended.
        """
        return False

    def child_pids(self) -> List[int]:
        """Return the pids of the runner's children, also of those that were not waited for yet."""
        try:
            with open("/proc/self/task/{0}/children".format(self._runner)) as file:
                return [int(pid) for pid in file.read().split()]
        except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
            return [process.pid for process in living() if process.parent == self._runner]

    @property
    def refused(self) -> bool:
        """Whether there were processes that could not be signalled."""
        return bool(self._refused)

    def descendants(self, table: Dict[int, Process]) -> Set[int]:
        """Return the pids of those in `table`, all processes by pid, that descend from the runner."""
        children: Dict[int, List[int]] = {}
        for process in table.values():
            children.setdefault(process.parent, []).append(process.pid)
        found: Set[int] = set()
        open_ends = [self._runner]
        while open_ends:
            for child in children.get(open_ends.pop(), []):
                if child not in found:
                    found.add(child)
                    open_ends.append(child)
        return found


def describe(process: Process) -> str:
    """Return a process for people: "sleep (pid 12, user root)"."""
    return "{} (pid {}, user {})".format(process.name, process.pid, user_of(process.pid) or "unknown")


def survivor_json(process: Process) -> Dict[str, Any]:
    """Return a process that outlives its run, as exit.json names it."""
    return {
        "pid": process.pid,
        "start_ticks": process.start_ticks,
        "boot_id": boot_id(),
        "name": process.name,
        "user": user_of(process.pid),
        "refused": may_not_signal(process.pid),
    }


def find(pid: int) -> Optional[Process]:
    """Return the living process `pid`; None when there is none."""
    return _read(pid)


def living() -> List[Process]:
    """Return all living processes of the host."""
    found = (_read(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [process for process in found if process is not None]


def _read(pid: int) -> Optional[Process]:
    """Return the process `pid`; None when there is none, or only its exit status is left."""
    try:
        # These calls take half the time of a file object, and there may be thousands of processes.
        fd = os.open("/proc/{}/stat".format(pid), os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.read(fd, 4096)
        finally:
            os.close(fd)
    except (FileNotFoundError, ProcessLookupError):
        return None
    head, _, tail = data.rpartition(b")")
    fields = tail.split()
    state, threads = fields[0], int(fields[17])
    # The first thread of a process may have ended before the others; its state is then that of a zombie.
    if state in b"ZX" and threads <= 1:
        return None
    name = head.partition(b"(")[2].decode("utf-8", "replace")
    return Process(pid, name, int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))
