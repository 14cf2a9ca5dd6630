"""A program of the stage: it is killed, and started again."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

_STOP_S = 30.0


class Program:
    """One program that is started again whenever it has died; what it says is kept in one file."""

    def __init__(self, name: str, argv: list[str], env: Mapping[str, str], output: Path) -> None:
        self.name = name
        self.argv = argv
        self.output = output
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None
        self._not_before_s = 0.0
        self._started_s = 0.0
        self._killed = False
        #: Exit codes that nobody asked for.
        self.surprises: list[int] = []

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def age_s(self) -> float:
        """Since it was started last."""
        return time.monotonic() - self._started_s

    def start(self) -> None:
        """Start it."""
        self._killed = False
        self._started_s = time.monotonic()
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=dict(self._env)
            )

    def kill(self, away_s: float = 0.0) -> bool:
        """Kill it, and keep it away for a while; whether it was there."""
        if self._process is None or self._process.poll() is not None:
            return False
        self._killed = True
        self._process.kill()
        self._process.wait()
        self._not_before_s = time.monotonic() + away_s
        return True

    def send(self, number: signal.Signals) -> bool:
        """Send it a signal; whether it was there."""
        if self._process is None or self._process.poll() is not None:
            return False
        self._process.send_signal(number)
        return True

    def tend(self) -> None:
        """Start it again when it is dead and its time has come."""
        if self._process is not None and self._process.poll() is None:
            return
        if self._process is not None and not self._killed and self._process.returncode != -signal.SIGKILL:
            self.surprises.append(self._process.returncode)
        if time.monotonic() >= self._not_before_s:
            self.start()

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        if self._process is None:
            return 0
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            return self._process.wait(_STOP_S)
        finally:
            self._process.kill()
            self._process.wait()
