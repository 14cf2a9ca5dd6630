"""A real supervisord in a directory of its own, and supervisorctl as its users call it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import xmlrpc.client
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from supervisor.xmlrpc import SupervisorTransport  # type: ignore[import-untyped]

from tests.support.waiting import wait_until

MAIN = """
[unix_http_server]
file={place}/supervisor.sock

[supervisord]
logfile={place}/supervisord.log
pidfile={place}/supervisord.pid
childlogdir={place}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://{place}/supervisor.sock

[include]
files = {place}/flowherd.conf
"""


@dataclass(frozen=True)
class Supervisord:
    """One supervisord. `python` is the interpreter that has the package supervisor."""

    place: Path
    python: str = sys.executable
    process_id: int = 0
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def configuration(self) -> Path:
        return self.place / "supervisord.conf"

    @property
    def url(self) -> str:
        return f"unix://{self.place}/supervisor.sock"

    @property
    def log(self) -> str:
        return (self.place / "supervisord.log").read_text()

    def call_control(self, *words: str, **options: str) -> subprocess.CompletedProcess[str]:
        """Run supervisorctl to its end. `options` are the variables of its environment."""
        argv = [self.python, "-m", "supervisor.supervisorctl", "-c", str(self.configuration), *words]
        env = {**os.environ, **self.env, **options}
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env=env)

    def control(self, *words: str) -> str:
        """Run supervisorctl and return its output. Its exit code is ignored: it is not 0 while a program is down."""
        return self.call_control(*words).stdout

    def pid(self, program: str = "flowherd") -> int:
        text = self.control("pid", program).strip()
        return int(text) if text.isdigit() else 0

    def proxy(self) -> xmlrpc.client.ServerProxy:
        """Return the XML-RPC interface over the Unix socket."""
        return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=SupervisorTransport(None, None, self.url))

    def is_up(self) -> bool:
        try:
            with self.proxy() as proxy:
                return proxy.supervisor.getState() == {"statecode": 1, "statename": "RUNNING"}
        except (OSError, xmlrpc.client.Error):
            return False


@contextmanager
def running_supervisord(
    place: Path, configuration: str, *, command: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Iterator[Supervisord]:
    """Run supervisord with this text as supervisord.conf in `place`, whose path must be short (unix(7))."""
    (place / "supervisord.conf").write_text(configuration)
    words = command or [sys.executable, "-m", "supervisor.supervisord"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FLOWHERD_HOME")}
    with (place / "out").open("wb") as out:
        argv = [*words, "-n", "-c", str(place / "supervisord.conf")]
        process = subprocess.Popen(argv, env={**clean, **(env or {})}, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    supervisord = Supervisord(place, words[0], process.pid, env or {})
    try:
        wait_until(lambda: supervisord.is_up() or process.poll() is not None)
        yield supervisord
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
