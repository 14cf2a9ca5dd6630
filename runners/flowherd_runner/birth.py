"""What a runner does before it knows its run: it leaves the process that forked it, and forks its flow process.

Everything that differs between runs comes later, so a spare runner can have done this long before.
"""

import os
import signal
from typing import Callable, NamedTuple, Optional, Tuple

from flowherd_runner import osapi
from flowherd_runner.flow_start import ForkedFlow, fork_flow
from flowherd_runner.isolation.init_process import InitProcess
from flowherd_runner.isolation.namespaces import Apart, NotToBeHad, separate_children
from flowherd_runner.set_weights import limit_cores

#: Signals by which a runner is asked to end its run.
STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


class Newborn(NamedTuple):
    """A runner without a run."""

    signals: osapi.SignalQueue
    flow: ForkedFlow
    #: The cgroup that both are in already; None if they are where the fork server is.
    cgroup: Optional[str] = None
    #: Whether the flow process is in a pid namespace of its own; None if none was asked for.
    apart: Optional[Apart] = None


def be_born(
    kept_fds: osapi.Descriptors,
    while_waiting: Callable[[int], None] = lambda _fd: None,
    cgroup: Optional[str] = None,
    apart: bool = False,
) -> Newborn:
    """Make this process a runner; `kept_fds` belong to preloaded modules. Standard error is left as it is.

    The flow process calls `while_waiting` with the descriptor by which it learns of its run. It is forked in `cgroup`,
    if that is known and can be entered: one move is less than two. With `apart` it is in a pid namespace of its own, if
    the kernel allows one, with a small program as its first process; this process stays outside.
    """
    umask = os.umask(0o077)
    _detach()
    signals = osapi.SignalQueue(STOP_SIGNALS | {signal.SIGCHLD})
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    osapi.become_subreaper()
    entered = osapi.enter_cgroup(cgroup, (os.getpid(),))
    found, init = _pid_namespace() if apart else (None, None)
    return Newborn(signals, fork_flow(umask, kept_fds, while_waiting, found, init), entered, found)


def _pid_namespace() -> Tuple[Apart, Optional[InitProcess]]:
    try:
        separate_children()
    except NotToBeHad as error:
        return Apart(None, str(error)), None
    init = InitProcess()
    return Apart(init.pid), init


def enter_cgroup(newborn: Newborn, cgroup: Optional[str], cores: Optional[float]) -> Optional[str]:
    """Be in the run's cgroup, with the flow process; return it, or None as osapi.enter_cgroup does.

    The flow process is limited to `cores` cores by affinity if that cgroup does not limit it.
    """
    entered = newborn.cgroup  # only a run with this cgroup gets such a spare
    if entered is None:
        init = newborn.flow.init
        others = [newborn.flow.pid, *([init.pid] if init is not None else [])]
        entered = osapi.enter_cgroup(cgroup, (os.getpid(), *others))
    limit_cores(newborn.flow.pid, cores, entered)
    return entered


def _detach() -> None:
    """Leave the process that started this one: own session, no terminal, no directory in use."""
    if os.getsid(0) != os.getpid():
        os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for target in (0, 1):
        os.dup2(null, target)
    os.close(null)
