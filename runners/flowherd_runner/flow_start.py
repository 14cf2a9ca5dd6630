"""Forks the flow process of a run, with the pipes and the channel through which its output reaches the runner."""

import os
import socket
from typing import NamedTuple, Optional, Union

from flowherd_runner import osapi
from flowherd_runner.flow_group import set_group
from flowherd_runner.flow_process import Inherited, WritingEnds, become_flow
from flowherd_runner.kinds.definition import Kind, NotStarted
from flowherd_runner.output_reader import ReadingEnds
from flowherd_runner.output_segments import Segments
from flowherd_runner.run_secrets import PreparedSpec


class ForkedFlow(NamedTuple):
    """A forked flow process, which waits for `let_go` before it runs any of the user's code."""

    pid: int
    ends: ReadingEnds
    #: Distinguishes this run's markers from all that a process prints.
    token: bytes
    go_fd: int
    segments: Optional[Segments]

    def let_go(self) -> None:
        """Let the flow process continue to the user's code."""
        # A flow process that could not be prepared has ended, and with it the other end of the pipe.
        try:
            os.write(self.go_fd, b"\n")
        except BrokenPipeError:
            pass
        os.close(self.go_fd)


def fork_flow(
    prepared: PreparedSpec, kind: Union[Kind, NotStarted], directory: str, umask: int, kept_fds: osapi.Descriptors
) -> ForkedFlow:
    """Fork the flow process of the run in `directory`. Returns in the runner only."""
    stdout_fd, stdout_end = os.pipe()
    stderr_fd, stderr_end = os.pipe()
    go_end, go_fd = os.pipe()
    records, records_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # The kernel then names the sender of each message: see channel.py.
    records.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    token = os.urandom(8).hex().encode()
    ends = WritingEnds(stdout_end, stderr_end, records_end.fileno(), go_end)
    segments = Segments() if isinstance(kind, Kind) and kind.in_fork else None
    inherited = Inherited(directory, os.getpid(), umask, kept_fds, token, prepared.refusal, segments)
    pid = os.fork()
    if pid == 0:
        become_flow(prepared.spec, kind, inherited, ends)
    for fd in (stdout_end, stderr_end, go_end):
        os.close(fd)
    records_end.close()
    set_group(pid)
    return ForkedFlow(pid, ReadingEnds(stdout_fd, stderr_fd, records), token, go_fd, segments)
