"""A real embedded server in a process of its own, on a free port, which ends with the block."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import requests

from tests.support.leftovers import current_mark
from tests.support.programs import Program, programs

_READY = re.compile(r"flowherd server ready at (http://\S+) ")
#: Limits in seconds; the machine may be busy with other tests.
START_S = 40.0
STOP_S = 15.0


class ServerProcess:
    """`python -m flowherd_server` on one data directory; it keeps its port over restarts.

    `port` 0 picks a free one. `settings` are those of the section [server] by name.
    """

    def __init__(self, data_dir: Path, token: str = "", port: int = 0, **settings: Any) -> None:
        self.data_dir = data_dir
        self.home = data_dir.with_name(data_dir.name + "-home")
        self.token = token
        self.url = ""
        self._settings = settings
        self._port = port
        self._errors = data_dir.with_name(data_dir.name + "-stderr")
        self._mark = current_mark()
        self._process: Program | None = None

    @property
    def pid(self) -> int:
        """Pid of the process that runs now."""
        assert self._process is not None, "the server does not run"
        return self._process.pid

    @property
    def stderr(self) -> str:
        """Standard error so far, over all restarts."""
        return self._errors.read_text(encoding="utf-8")

    def start(self) -> None:
        """Start it and wait until it answers."""
        assert self._process is None, "the server runs already"
        environ = {
            k: v for k, v in os.environ.items() if not k.startswith(("PREFECT__", "FLOWHERD__", "FLOWHERD_HOME"))
        }
        environ |= {"FLOWHERD__SERVER__TOKEN": self.token, **self._mark}
        environ |= {f"FLOWHERD__SERVER__{name.upper()}": str(value) for name, value in self._settings.items()}
        arguments = ["--port", str(self._port), "--data-dir", str(self.data_dir), "--home", str(self.home)]
        read, write = os.pipe()
        self._output = os.fdopen(read)
        with self._errors.open("a", encoding="utf-8") as errors:
            self._process = programs.start("flowherd_server", arguments, environ, write, errors)
        os.close(write)
        try:
            self._wait_until_ready(self._output)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> int:
        """Stop it as a service manager does; return its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """Kill it by SIGKILL; return its exit code."""
        return self._end(signal.SIGKILL)

    def wait_for_end(self, timeout_s: float = 20) -> int:
        """Wait until it ends by itself; return its exit code."""
        assert self._process is not None, "the server does not run"
        self._process.wait(timeout_s)
        return self._end(None)

    def restart(self) -> None:
        """Stop it if it runs, and start it again on the same data and port."""
        if self._process is not None:
            self.stop()
        self.start()

    def get(self, path: str, **content: Any) -> requests.Response:
        """Send a GET with the token."""
        return requests.get(self.url + path, headers=self._headers(), timeout=30, **content)

    def post(self, path: str, **content: Any) -> requests.Response:
        """Send a POST with the token; `headers` are added."""
        headers = {**self._headers(), **content.pop("headers", {})}
        with requests.Session() as session:
            session.trust_env = False  # tests use several threads, and os.environ changes between tests
            return session.post(self.url + path, headers=headers, timeout=30, **content)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def _end(self, number: signal.Signals | None) -> int:
        assert self._process is not None, "the server does not run"
        process, self._process = self._process, None
        if number is not None:
            process.send_signal(number)
        try:
            return process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_S)
            raise
        finally:
            self._output.close()

    def _wait_until_ready(self, output: IO[str]) -> None:
        readable, _, _ = select.select([output], [], [], START_S)
        line = output.readline() if readable else ""
        match = _READY.match(line)
        assert match, f"the server did not become ready: {line!r}, {self.stderr}"
        self.url = match[1]
        self._port = int(self.url.rpartition(":")[2])
        deadline_s = time.monotonic() + START_S
        while not self.get("/health").ok:
            assert time.monotonic() < deadline_s, "the server has printed that it is ready, but /health is not"
            time.sleep(0.01)


@contextmanager
def running_server(data_dir: Path, token: str = "", **settings: Any) -> Iterator[ServerProcess]:
    """Start a server; it has ended at the end of the block."""
    server = ServerProcess(data_dir, token, **settings)
    server.start()
    try:
        yield server
    finally:
        if server._process is not None:
            server.stop()
