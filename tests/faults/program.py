"""A program of the cluster, which is killed and started again."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Collection, Mapping
from pathlib import Path

_STOP_S = 30.0
#: Pause before another start after an end that a fault explains, seconds.
_AGAIN_S = 0.5


class Program:
    """One program that is started again whenever it has died; all its output is in one file.

    `explained` are exit codes of ends that a fault of the kit can cause.
    """

    def __init__(
        self, name: str, argv: list[str], env: Mapping[str, str], output: Path, explained: Collection[int] = ()
    ) -> None:
        self.name = name
        self.argv = argv
        self.output = output
        self._env = env
        self._explained = explained
        self._process: subprocess.Popen[bytes] | None = None
        self._not_before_s = 0.0
        self._started_s = 0.0
        self._killed = False
        #: Exit codes of ends that the kit has not caused.
        self.surprises: list[int] = []

    @property
    def pid(self) -> int | None:
        """Pid of the process that runs now."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def age_s(self) -> float:
        """Seconds since its last start."""
        return time.monotonic() - self._started_s

    def start(self) -> None:
        self._killed = False
        self._started_s = time.monotonic()
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=dict(self._env)
            )

    def kill(self, away_s: float = 0.0) -> bool:
        """Kill it and keep it away for a while; return whether it was running."""
        if self._process is None or self._process.poll() is not None:
            return False
        self._killed = True
        self._process.kill()
        self._process.wait()
        self._not_before_s = time.monotonic() + away_s
        return True

    def send(self, number: signal.Signals) -> bool:
        """Send it a signal; return whether it was running."""
        if self._process is None or self._process.poll() is not None:
            return False
        self._process.send_signal(number)
        return True

    def tend(self) -> None:
        """Start it again when it is dead and has been away long enough."""
        if self._process is not None and self._process.poll() is None:
            return
        if self._process is not None and not self._killed:
            self._killed = True
            if self._process.returncode in self._explained:
                self._not_before_s = time.monotonic() + _AGAIN_S
            elif self._process.returncode != -signal.SIGKILL:
                self.surprises.append(self._process.returncode)
        if time.monotonic() >= self._not_before_s:
            self.start()

    def stop(self) -> int:
        """Stop it; return its exit code."""
        if self._process is None:
            return 0
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            return self._process.wait(_STOP_S)
        finally:
            self._process.kill()
            self._process.wait()
