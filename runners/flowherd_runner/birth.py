"""What a runner does before it knows its run: it leaves the process that forked it, and forks its flow process.

Everything that differs between runs comes later, so a spare runner can have done this long before.
"""

import os
import signal
from typing import Callable, NamedTuple

from flowherd_runner import osapi
from flowherd_runner.flow_start import ForkedFlow, fork_flow

#: Signals by which a runner is asked to end its run.
STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


class Newborn(NamedTuple):
    """A runner without a run."""

    signals: osapi.SignalQueue
    flow: ForkedFlow


def be_born(kept_fds: osapi.Descriptors, while_waiting: Callable[[int], None] = lambda _fd: None) -> Newborn:
    """Make this process a runner; `kept_fds` belong to preloaded modules. Standard error is left as it is.

    The flow process calls `while_waiting` with the descriptor by which it learns of its run.
    """
    umask = os.umask(0o077)
    _detach()
    signals = osapi.SignalQueue(STOP_SIGNALS | {signal.SIGCHLD})
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    osapi.become_subreaper()
    return Newborn(signals, fork_flow(umask, kept_fds, while_waiting))


def _detach() -> None:
    """Leave the process that started this one: own session, no terminal, no directory in use."""
    if os.getsid(0) != os.getpid():
        os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for target in (0, 1):
        os.dup2(null, target)
    os.close(null)
