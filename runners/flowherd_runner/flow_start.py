"""Forks the flow process of a run, with the pipes and the channel through which its output reaches the runner.

It is forked before its run is known: a spare runner has it ready, and any other prepares beside it.
"""

import os
import signal
import socket
from typing import Callable, Mapping, NamedTuple, Optional

from flowherd_runner import osapi
from flowherd_runner.flow_group import set_group
from flowherd_runner.flow_orders import send_go, send_order, send_variables
from flowherd_runner.flow_process import Inherited, WritingEnds, become_flow
from flowherd_runner.isolation.init_process import InitProcess
from flowherd_runner.isolation.namespaces import Apart
from flowherd_runner.output_reader import ReadingEnds
from flowherd_runner.output_segments import Segments


class ForkedFlow(NamedTuple):
    """A forked flow process, which waits for its run, and then for `let_go` before it runs any of the user's code."""

    pid: int
    ends: ReadingEnds
    #: Distinguishes this run's markers from all that a process prints.
    token: bytes
    order_fd: int
    #: Used if its run is carried out in the fork itself.
    segments: Segments
    #: The init process of its pid namespace; None if it is in the runner's.
    init: Optional[InitProcess] = None

    def give(self, directory: str, spec: bytes) -> None:
        """Name its run, which it prepares at once."""
        send_order(self.order_fd, directory, spec)

    def give_variables(self, variables: Mapping[str, str], refusal: Optional[str]) -> None:
        """Pass on what was read for the run, or why it must not be started."""
        send_variables(self.order_fd, variables, refusal)

    def let_go(self) -> None:
        """Let the flow process continue to the user's code."""
        send_go(self.order_fd)

    def end(self) -> None:
        """End it, and its namespace, before it has run any of the user's code, and wait for its end."""
        os.kill(self.pid, signal.SIGKILL)
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:  # it had ended, and was waited for
            pass
        if self.init is not None:
            self.init.end()


def fork_flow(
    umask: int,
    kept_fds: osapi.Descriptors,
    while_waiting: Callable[[int], None],
    apart: Optional[Apart] = None,
    init: Optional[InitProcess] = None,
) -> ForkedFlow:
    """Fork a flow process. Returns in the runner only.

    `apart` says whether it is forked into a pid namespace of its own, whose init process is `init`.
    """
    stdout_fd, stdout_end = os.pipe()
    stderr_fd, stderr_end = os.pipe()
    order_end, order_fd = os.pipe()
    records, records_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # The kernel then names the sender of each message: see channel.py.
    records.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    token = os.urandom(8).hex().encode()
    ends = WritingEnds(stdout_end, stderr_end, records_end.fileno(), order_end)
    segments = Segments()
    inherited = Inherited(os.getpid(), umask, kept_fds, token, segments, while_waiting, apart)
    pid = os.fork()
    if pid == 0:
        become_flow(inherited, ends)
    for fd in (stdout_end, stderr_end, order_end):
        os.close(fd)
    records_end.close()
    set_group(pid)
    return ForkedFlow(pid, ReadingEnds(stdout_fd, stderr_fd, records), token, order_fd, segments, init)
