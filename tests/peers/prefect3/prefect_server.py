"""A real Prefect 3 server, and what a user does there by plain requests."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.peers.environments import PREFECT_3, Installation, locked, required_installation
from tests.support.leftovers import current_mark
from tests.support.ports import free_port
from tests.support.waiting import wait_until

#: How long a start may take, seconds: the machine may be busy with other tests.
_START_S = 90.0
_STOP_S = 20.0
#: How long a server may refuse a request because its database is locked, seconds.
_BUSY_S = 60.0


class PrefectServer:
    """`prefect server start` with a database of its own, and a user's requests to it."""

    def __init__(
        self, home: Path, variables: Mapping[str, str] | None = None, installation: Installation | None = None
    ) -> None:
        self.installation = installation or required_installation(PREFECT_3)
        self._home = home
        #: Variables of its own processes, from the next start on.
        self.variables = dict(variables or {})
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
                [self.installation.prefect, *arguments],
                env={**self.environ(), **self._mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._home,
            )
        wait_until(self._answers, timeout_s=_START_S, what=lambda: (self._home / "server.log").read_text()[-2000:])

    def stop(self) -> None:
        """Have it end; kill it when it does not."""
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

    def copy_empty_database(self) -> None:
        """Put a database there that has all tables and blocks, before the first start, which would take twice as long.

        Nor do later starts look whether something is missing.
        """
        self._home.mkdir(parents=True, exist_ok=True)
        shutil.copy(_empty_database(self.installation), self._home / "prefect.db")
        for variable in ("PREFECT_SERVER_DATABASE_MIGRATE_ON_START", "PREFECT_SERVER_REGISTER_BLOCKS_ON_START"):
            self.variables.setdefault(variable, "false")

    def environ(self) -> dict[str, str]:
        """Return the environment of its own processes, without the caller's settings; nothing is sent elsewhere."""
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
        """Send one request, again while its database is locked; return the JSON answer."""
        return asked(self._session, method, self.api + path, body)

    def add_pool(self, name: str, **facts: Any) -> None:
        self.ask("POST", "/work_pools/", {"name": name, "type": "process", "base_job_template": {}, **facts})

    def add_deployment(self, pool: str, name: str = "deployment", **facts: Any) -> str:
        """Make a deployment, or change the one of that name if the pool has it, and return its id.

        Its flow belongs to the pool: the server keeps the fields that are not given, so a test could get those of the
        deployment of another one.
        """
        flow = self.ask("POST", "/flows/", {"name": f"flow of {name} in {pool}"})
        body = {"name": name, "flow_id": flow["id"], "work_pool_name": pool, "entrypoint": "flows.py:main", **facts}
        return str(self.ask("POST", "/deployments/", body)["id"])

    def add_run(self, deployment: str, **facts: Any) -> str:
        body = {"state": {"type": "SCHEDULED"}, **facts}
        return str(self.ask("POST", f"/deployments/{deployment}/create_flow_run", body)["id"])

    def keep_secret(self, name: str, value: str) -> None:
        """Make a block of the type Secret."""
        self.ask("POST", "/block_types/install_system_block_types")
        kind = self.ask("GET", "/block_types/slug/secret")["id"]
        schemas = self.ask("POST", "/block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": [kind]}}})
        block = {"name": name, "data": {"value": value}, "block_type_id": kind, "block_schema_id": schemas[0]["id"]}
        asked(self._session, "POST", f"{self.api}/block_documents/", block, repeated=409)

    def run(self, run_id: str) -> Any:
        return self.ask("GET", f"/flow_runs/{run_id}")

    def pid(self, run_id: str) -> int:
        """Return the pid of the run's process, which is reported to the server soon after its start."""
        return int(wait_until(lambda: self.run(run_id)["infrastructure_pid"], what=f"the pid of {run_id}"))

    def state(self, run_id: str) -> str:
        return str(self.run(run_id)["state"]["type"])

    def set_state(self, run_id: str, state_type: str, force: bool = False, **facts: Any) -> str:
        body = {"state": {"type": state_type, **facts}, "force": force}
        return str(self.ask("POST", f"/flow_runs/{run_id}/set_state", body)["status"])

    def log(self, run_id: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        while len(rows) % 200 == 0:  # the server's limit for one answer
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

    def story(self, run_id: str) -> str:
        """Describe the run for the message of a failed test: its state with its message, and its log."""
        return f"{self.run(run_id)['state']}\n" + "\n".join(row["message"] for row in self.log(run_id))

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, "the server has ended"
        try:
            return self._session.get(f"{self.api}/health", timeout=5).ok
        except requests.RequestException:
            return False


@contextmanager
def running_prefect(
    home: Path, variables: Mapping[str, str] | None = None, installation: Installation | None = None
) -> Iterator[PrefectServer]:
    """Start a server, of PREFECT_3 unless another is given; it has ended at the end of the block."""
    server = PrefectServer(home, variables, installation)
    try:
        if "PREFECT_SERVER_DATABASE_CONNECTION_URL" not in server.variables:
            server.copy_empty_database()
        server.start()
        yield server
    finally:
        server.stop()


def _empty_database(installation: Installation) -> Path:
    """Return the file beside the installation; make it by the first start of a server if it is missing."""
    path = installation.directory.with_name(installation.directory.name + ".sqlite")
    with locked(path.with_suffix(".sqlite.lock")):
        if not path.exists():
            with tempfile.TemporaryDirectory() as home:
                server = PrefectServer(Path(home), installation=installation)
                server.start()
                server.stop()
                made = path.with_suffix(".new")
                with closing(sqlite3.connect(f"{home}/prefect.db")) as source, closing(sqlite3.connect(made)) as copy:
                    source.backup(copy)
                made.rename(path)
    return path


def asked(session: requests.Session, method: str, url: str, body: Any = None, repeated: int | None = None) -> Any:
    """Send a request to a Prefect 3 server, again while its database is locked; return the JSON answer.

    A request may have been carried out although its answer was an error; then the next one is answered `repeated`.
    """
    (response,) = wait_until(
        lambda: _unless_busy(session, method, url, body), timeout_s=_BUSY_S, what=f"{method} {url}", every_s=0.1
    )
    assert response.ok or response.status_code == repeated, (
        f"{method} {url}: {response.status_code} {response.text[:500]}"
    )
    return response.json() if response.content else None


def _unless_busy(session: requests.Session, method: str, url: str, body: Any) -> list[requests.Response]:
    try:
        response = session.request(method, url, json=body, timeout=60)
    except requests.ConnectionError:  # the server breaks connections after such an answer
        return []
    return [] if response.status_code == 503 else [response]
