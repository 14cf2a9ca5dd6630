"""A runner as the agent sees it: a process that is perhaps not its child, named by pid and start ticks.

Where the kernel has pidfds (Linux 5.3), the process is held by one, so no signal can reach a stranger that got the
same pid later; elsewhere the start ticks are compared right before.
"""

from __future__ import annotations

import contextlib
import os
import signal

from flowherd_runner.contract import identity


class RunnerProcess:
    """A runner that was alive when this was made. Raises ProcessLookupError when it was not."""

    def __init__(self, pid: int, start_ticks: int) -> None:
        self.pid = pid
        self.start_ticks = start_ticks
        self._pidfd = _open_pidfd(pid)
        if not identity.is_alive(pid, start_ticks):
            self.close()
            raise ProcessLookupError(f"no process {pid} that started at tick {start_ticks}")

    def fileno(self) -> int | None:
        """A descriptor that is readable once the process has ended, where the kernel gives one."""
        return self._pidfd

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return identity.is_alive(self.pid, self.start_ticks)

    def send(self, number: signal.Signals) -> bool:
        """Send a signal; False when the process has ended."""
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

    def close(self) -> None:
        """Give the descriptor back."""
        if self._pidfd is not None:
            with contextlib.suppress(OSError):
                os.close(self._pidfd)
            self._pidfd = None


def _open_pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:  # ENOSYS, or no descriptors left: the slower way works too
        return None
