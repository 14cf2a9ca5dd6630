"""Spare runners: forked before there is a run for them, with their flow process, so that a start need not wait for it.

A spare waits on a socket for a run, and ends at its end of file: when the fork server ends, however that happens, or
has no use for it. Until it has a run it holds no file of one, and nothing names it but the fork server's "spares".
"""

import os
import socket
import sys
import time
from functools import partial
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from flowherd_runner import descriptors, osapi
from flowherd_runner.birth import be_born
from flowherd_runner.contract.messages import MAX_MESSAGE_BYTES, SPARE_CGROUP
from flowherd_runner.contract.reasons import RUNNER_OK
from flowherd_runner.isolation.rehearsal import warm_up
from flowherd_runner.own_errors import open_errors
from flowherd_runner.rehearsal import rehearse_flow, rehearse_runner, rehearse_when_idle
from flowherd_runner.runner import run
from flowherd_runner.start_requests import SparesRequest, StartRequest

#: How long nothing must have been asked of the fork server before it makes a spare, seconds: not between two requests
#: of a burst, which gains nothing from it, nor while a run that was just started uses the processor.
_QUIET_S = 0.02
#: How long a spare must have waited before it rehearses, seconds, unless the agent says otherwise.
_IDLE_S = 0.3
#: Number of spares in a row that may end by themselves; then none is made any more.
_MAX_FAILED = 3


class _Spare(NamedTuple):
    #: None once it was given a run, or is to end.
    channel: Optional[socket.socket]
    #: The cgroup that it makes for itself and enters, to be that of the run; None without.
    cgroup: Optional[str]
    #: Whether its flow process has a pid namespace of its own, for a run with a level of isolation.
    apart: bool


class Spares:
    """The spare runners of one fork server. `fork` forks a child that ends with what its argument returns.

    There are two sorts, because a flow process enters its pid namespace when it is forked.
    """

    def __init__(self, fork: Callable[[Callable[[], int]], int], kept_fds: osapi.Descriptors) -> None:
        self._fork = fork
        self._kept_fds = kept_fds
        self._wanted = {apart: SparesRequest(0, None, None, apart) for apart in (False, True)}
        self._spares: Dict[int, _Spare] = {}
        self._failed = 0
        self._due_s = 0.0

    def _pids(self, apart: bool) -> List[int]:
        """Return the pids of those of one sort that wait for a run."""
        return [pid for pid, spare in self._spares.items() if spare.channel is not None and spare.apart == apart]

    def report(self) -> Dict[str, Any]:
        """Return pids and cgroups of those that wait for a run, as in the message "spares"."""
        plain, apart = self._report(False), self._report(True)
        return dict(plain, apart=apart) if apart["pids"] or self._wanted[True].number else plain

    def _report(self, apart: bool) -> Dict[str, List[Any]]:
        pids = self._pids(apart)
        cgroups = [self._spares[pid].cgroup for pid in pids]
        return {"pids": pids, "cgroups": [cgroup for cgroup in cgroups if cgroup is not None]}

    def want(self, asked: SparesRequest) -> None:
        """Keep that many of that sort; the request holds for those that are made from now on."""
        if asked.apart and asked.number and not self._wanted[True].number:
            warm_up()
        self._wanted[asked.apart] = asked
        for pid in self._pids(asked.apart)[asked.number :]:
            self._dismiss(pid)

    def _missing(self) -> Optional[SparesRequest]:
        """Return the request of a sort of which there are too few; None if there is none."""
        return next((one for one in self._wanted.values() if len(self._pids(one.apart)) < one.number), None)

    def put_off(self) -> None:
        """Make none for a moment, because there is something else to do."""
        self._due_s = time.monotonic() + _QUIET_S

    def due_in_s(self) -> Optional[float]:
        """How long until `refill` has something to do, seconds; None if nothing is missing."""
        if self._missing() is None:
            return None
        return max(0.0, self._due_s - time.monotonic())

    def refill(self) -> None:
        """Make one spare, which the other process prepares. Raises OSError when it cannot be forked."""
        sort = self._missing()
        if sort is None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        cgroup = None
        if sort.cgroups is not None:
            cgroup = os.path.join(sort.cgroups, "{}{}-{}".format(SPARE_CGROUP, os.getpid(), os.urandom(6).hex()))

        def be_spare() -> int:
            ours.close()  # else it would never be at its end of file
            return _wait_for_run(theirs, self._kept_fds, sort, cgroup)

        with theirs:
            try:
                pid = self._fork(be_spare)
            except OSError:
                ours.close()
                raise
        self._spares[pid] = _Spare(ours, cgroup, sort.apart)

    def hand_over(self, asked: StartRequest) -> Optional[int]:
        """Give a run to a spare and return its pid; None if there is none for it.

        A spare that is in another cgroup than the run's is left for the run that was promised that one: two runs in one
        cgroup would end together.
        """
        fds = [asked.lock_fd] if asked.go_fd is None else [asked.lock_fd, asked.go_fd]
        for pid in [one for one in self._pids(asked.apart) if self._spares[one].cgroup in (None, asked.cgroup)]:
            channel = self._spares[pid].channel
            assert channel is not None
            try:
                descriptors.send(channel, os.fsencode(asked.directory), fds)
            except OSError:  # it has ended, and will be reaped
                self._dismiss(pid)
                continue
            channel.close()
            del self._spares[pid]
            self._failed = 0
            return pid
        return None

    def reap(self) -> bool:
        """Wait for those that have ended without a run, and return whether there was one."""
        ended = [pid for pid in self._spares if os.waitpid(pid, os.WNOHANG)[0]]
        for pid in ended:
            spare = self._spares.pop(pid)
            if spare.cgroup is not None:
                osapi.remove_cgroup(spare.cgroup)
            if spare.channel is not None:
                spare.channel.close()
                self._note_failed(pid)
        return bool(ended)

    def close(self) -> None:
        """Have all of them end, and make no more; in a child of the fork server: have nothing to do with them."""
        self._want_none()
        for pid in [*self._pids(False), *self._pids(True)]:
            self._dismiss(pid)

    def _want_none(self) -> None:
        self._wanted = {apart: one._replace(number=0) for apart, one in self._wanted.items()}

    def _dismiss(self, pid: int) -> None:
        spare = self._spares[pid]
        if spare.channel is not None:
            spare.channel.close()
        self._spares[pid] = spare._replace(channel=None)

    def _note_failed(self, pid: int) -> None:
        self.put_off()
        self._failed += 1
        if self._failed >= _MAX_FAILED:
            self._want_none()
            sys.stderr.write("{} spare runners have ended, the last had pid {}; no more\n".format(_MAX_FAILED, pid))


def _wait_for_run(
    channel: socket.socket, kept_fds: osapi.Descriptors, sort: SparesRequest, cgroup: Optional[str]
) -> int:
    """Be a spare, and then the runner of the run that it is given. Returns this process's exit code."""
    if cgroup is not None:
        osapi.make_cgroup(cgroup)
    idle_s = _IDLE_S if sort.idle_s is None else sort.idle_s
    of_flow = partial(rehearse_flow, sort.apart)
    newborn = be_born(kept_fds, lambda fd: rehearse_when_idle(fd, idle_s, of_flow), cgroup, sort.apart)
    rehearse_when_idle(channel.fileno(), idle_s, rehearse_runner)
    try:
        data, fds, _ = descriptors.receive(channel, MAX_MESSAGE_BYTES)
    except OSError:
        data, fds = b"", []
    channel.close()
    if not data or not fds:
        newborn.flow.end()
        return RUNNER_OK
    directory = os.fsdecode(data)
    open_errors(directory)
    return run(directory, fds[0], fds[1] if len(fds) > 1 else None, newborn)
