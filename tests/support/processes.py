"""Signal dispositions for the processes that tests start, however the tests themselves were started.

A shell without job control ignores SIGINT and SIGQUIT in what it starts with `&` (POSIX, "Asynchronous Lists"), and
nohup ignores SIGHUP. execve(2) passes an ignored signal on, so every program that a test starts would ignore it:
Prefect's own agents and PostgreSQL, which are stopped by SIGINT, would never stop.
"""

from __future__ import annotations

import signal

#: Signals that a caller is known to leave ignored.
_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


def give_children_default_signals() -> None:
    """Replace each ignored signal by a handler that does nothing.

    This process goes on surviving the signal, as its caller wants; the programs that it starts have the default again,
    because execve(2) resets handled signals. Call this in the main thread, before anything is started.
    """
    for number in _SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _do_nothing)


def _do_nothing(_number: int, _frame: object) -> None:
    pass
