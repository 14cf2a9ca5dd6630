"""A real Prefect 3 server, and what a user does at it. Its environment is of tests/peers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.peers.environments import THIRD, Peer, required_peer
from tests.support.leftovers import current_mark
from tests.support.waiting import wait_until

#: Generous: it makes its database, and the machine may be busy with other tests.
_START_S = 90.0
_STOP_S = 20.0


class PrefectServer:
    """`prefect server start` with a database of its own, and what a user does at it by plain requests."""

    def __init__(self, home: Path, peer: Peer | None = None, **variables: str) -> None:
        self._command = (peer or required_peer(THIRD)).prefect
        self._home = home
        #: Of its own processes, from its next start on.
        self.variables = variables
        self._mark = current_mark()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.api = f"http://127.0.0.1:{self.port}/api"
        self._session = requests.Session()
        self._session.trust_env = False

    def start(self) -> None:
        """Start it and wait until it answers."""
        if "PREFECT_SERVER_API_AUTH_STRING" in self.variables:
            name, _, password = self.variables["PREFECT_SERVER_API_AUTH_STRING"].partition(":")
            self._session.auth = (name, password)
        self._home.mkdir(parents=True, exist_ok=True)
        arguments = ["server", "start", "--host", "127.0.0.1", "--port", str(self.port), "--no-ui"]
        with (self._home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._command, *arguments],
                env={**self.environ(), **self._mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._home,
            )
        wait_until(self._answers, timeout_s=_START_S, what=lambda: (self._home / "server.log").read_text()[-2000:])

    def stop(self) -> None:
        """Ask it to end, and see to it."""
        self._session.close()
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_STOP_S)
        self._process = None

    def environ(self) -> dict[str, str]:
        """For its own processes: nothing of this person's, and nothing sent to anybody."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        return {
            **kept,
            "HOME": str(self._home),
            "PREFECT_HOME": str(self._home),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{self._home}/prefect.db",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
            "DO_NOT_TRACK": "1",
            **self.variables,
        }

    # -- what a user does

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One request, again while its database is locked; the JSON answer."""
        return asked(self._session, method, self.api + path, body)

    def add_pool(self, name: str, **facts: Any) -> None:
        self.ask("POST", "/work_pools/", {"name": name, "type": "process", "base_job_template": {}, **facts})

    def add_deployment(self, pool: str, name: str = "deployment", **facts: Any) -> str:
        flow = self.ask("POST", "/flows/", {"name": f"flow of {name}"})
        body = {"name": name, "flow_id": flow["id"], "work_pool_name": pool, "entrypoint": "flows.py:main", **facts}
        return str(self.ask("POST", "/deployments/", body)["id"])

    def add_run(self, deployment: str, **facts: Any) -> str:
        body = {"state": {"type": "SCHEDULED"}, **facts}
        return str(self.ask("POST", f"/deployments/{deployment}/create_flow_run", body)["id"])

    def keep_secret(self, name: str, value: str) -> None:
        """A block of the type Secret."""
        self.ask("POST", "/block_types/install_system_block_types")
        kind = self.ask("GET", "/block_types/slug/secret")["id"]
        schemas = self.ask("POST", "/block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": [kind]}}})
        block = {"name": name, "data": {"value": value}, "block_type_id": kind, "block_schema_id": schemas[0]["id"]}
        self.ask("POST", "/block_documents/", block)

    def run(self, run_id: str) -> Any:
        return self.ask("GET", f"/flow_runs/{run_id}")

    def pid(self, run_id: str) -> int:
        """Of the run's process, which the server is told soon after its start."""
        return int(wait_until(lambda: self.run(run_id)["infrastructure_pid"], what=f"the pid of {run_id}"))

    def state(self, run_id: str) -> str:
        return str(self.run(run_id)["state"]["type"])

    def set_state(self, run_id: str, state_type: str, force: bool = False, **facts: Any) -> str:
        body = {"state": {"type": state_type, **facts}, "force": force}
        return str(self.ask("POST", f"/flow_runs/{run_id}/set_state", body)["status"])

    def log(self, run_id: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        while len(rows) % 200 == 0:  # the most that one answer holds
            asked = {
                "logs": {"flow_run_id": {"any_": [run_id]}},
                "limit": 200,
                "offset": len(rows),
                "sort": "TIMESTAMP_ASC",
            }
            page = self.ask("POST", "/logs/filter", asked)
            rows += page
            if not page:
                break
        return rows

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, "the server has ended"
        try:
            return self._session.get(f"{self.api}/health", timeout=5).ok
        except requests.RequestException:
            return False


@contextmanager
def running_prefect(home: Path, peer: Peer | None = None, **variables: str) -> Iterator[PrefectServer]:
    """The server, ready, of 3.8.5 unless another is given; it is gone at the end of the block."""
    server = PrefectServer(home, peer, **variables)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """One that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def asked(session: requests.Session, method: str, url: str, body: Any = None) -> Any:
    """The JSON answer of a Prefect 3 server to one request, which is sent again while its database is locked."""
    (response,) = wait_until(lambda: _unless_busy(session, method, url, body), what=f"{method} {url}")
    assert response.ok, f"{method} {url}: {response.status_code} {response.text[:500]}"
    return response.json() if response.content else None


def _unless_busy(session: requests.Session, method: str, url: str, body: Any) -> list[requests.Response]:
    try:
        response = session.request(method, url, json=body, timeout=30)
    except requests.ConnectionError:  # it breaks connections on which it has answered so
        return []
    return [] if response.status_code == 503 else [response]
