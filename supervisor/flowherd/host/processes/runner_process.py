"""A handle on a runner, which need not be a child of this process: identified by pid and start ticks.

If the kernel has pidfds (Linux 5.3), the handle uses one, so that no signal can reach a later process with the same
pid; otherwise the start ticks are compared right before a signal is sent.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time

from flowherd_runner.contract import identity

#: Pause between two looks at a process without a pidfd, seconds.
_LOOK_S = 0.01


class RunnerProcess:
    """A runner, alive when this handle is created. Raises ProcessLookupError if it is not."""

    def __init__(self, pid: int, start_ticks: int) -> None:
        self.pid = pid
        self.start_ticks = start_ticks
        #: Whether `alive` has found that it has ended.
        self.seen_gone = False
        self._pidfd = _open_pidfd(pid)
        if not identity.is_alive(pid, start_ticks):
            self.close()
            raise ProcessLookupError(f"no process {pid} that started at tick {start_ticks}")

    def fileno(self) -> int | None:
        """Return a descriptor that becomes readable when the process ends; None without pidfds."""
        return self._pidfd

    @property
    def alive(self) -> bool:
        """Whether the process is still running."""
        self.seen_gone = self.seen_gone or not identity.is_alive(self.pid, self.start_ticks)
        return not self.seen_gone

    def send(self, number: signal.Signals) -> bool:
        """Send a signal. Return False if the process has ended."""
        try:
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, number)
            elif self.alive:
                os.kill(self.pid, number)
            else:
                return False
        except ProcessLookupError:
            return False
        return True

    def wait(self, timeout_s: float) -> bool:
        """Wait until the process has ended. Return False if it has not within `timeout_s` seconds."""
        if self._pidfd is not None:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            return bool(poll.poll(int(1000 * timeout_s)))
        deadline_s = time.monotonic() + timeout_s
        while self.alive:
            if time.monotonic() >= deadline_s:
                return False
            time.sleep(_LOOK_S)
        return True

    def close(self) -> None:
        """Close the descriptor."""
        if self._pidfd is not None:
            with contextlib.suppress(OSError):
                os.close(self._pidfd)
            self._pidfd = None


def _open_pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:  # ENOSYS, or no descriptors left: start ticks are used instead
        return None
