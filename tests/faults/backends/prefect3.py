"""A process work pool of a real Prefect 3 server under the kit.

There are three sorts of runs: Prefect's flows in the warm fork, whose engines talk to the server directly or through
the network of the agents, and commands without an engine.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import requests

from tests.faults import plan
from tests.faults.backends import Unanswered
from tests.faults.evidence import Facts, StoredRun, line_numbers, read_only
from tests.faults.invariants import End, RunFaults
from tests.faults.plan import PlannedRun
from tests.faults.program import Program
from tests.peers.environments import PREFECT_3, required_installation
from tests.peers.prefect3.prefect_server import PrefectServer
from tests.support.waiting import wait_until

_CODE = Path(__file__).parent.parent
_POOL = "kit"
DIRECT, THROUGH, COMMAND = "flow, without the network", "flow, through the network", "command"
_START_S = 90.0
_REQUEST_S = 5.0
#: What the line about an end says of processes that are left; each has one of these.
_AUDITS = ("No process was left", "Left running and ended: ")
_NEVER_STARTED = "cancelled before it could be started"
_TERMINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
#: Loggers of the lines that the code itself writes.
_LOGGERS = ("flowherd.stdout", "prefect.flow_runs")


class Prefect3Rules:
    """The engine of a run reports its states; the agent reports only what the engine no longer can."""

    finals = _TERMINAL
    agent_ends_runs = False
    #: Prefect's engine works for a while before the user's code, and may die before it.
    traceless_points = frozenset(plan.RUNNER_POINTS)
    _flow_ends: Mapping[str, End] = {
        "ok": ("COMPLETED", None, ""),
        "code": ("CRASHED", None, "Python system exit call"),
        "raise": ("FAILED", None, "as planned"),
    }
    #: The agent alone reports the end of a command, and does not know what it meant.
    _command_ends: Mapping[str, End] = {
        "ok": ("CRASHED", None, "exited with code 0"),
        "code": ("CRASHED", None, "exited with code 3"),
        "raise": ("CRASHED", None, "exited with code 1"),
    }
    _lost: End = ("CRASHED", None, "The runner of this flow run was killed")
    _not_started: End = ("CRASHED", None, "The runner ended before it started the flow")
    _probably_oom: End = ("CRASHED", None, "probable")
    _cancelled: End = ("CANCELLED", None, "")
    #: Messages of an engine that could not talk to its server.
    _unheard: tuple[End, ...] = (
        ("CRASHED", None, "Execution was interrupted by an unexpected exception"),
        ("CRASHED", None, "Request to http"),
        ("CRASHED", None, "while attempting to contact the server"),
        ("CRASHED", None, "RuntimeError: Failed to reach API at"),
        ("CRASHED", None, "json.decoder.JSONDecodeError"),
        ("CRASHED", None, "httpx."),
    )
    _terminated: End = ("CRASHED", None, "Execution was aborted by a termination signal")

    def doubled(self, stored: StoredRun, run_faults: RunFaults) -> Iterator[str]:
        """A run is claimed once, starts once and ends once; a late claim that was undone does not count."""
        finals = [state for state in stored.history if state in _TERMINAL]
        undone = stored.history.count("PENDING") == 2 and len(finals) == 2 and finals[0] == finals[1]
        if len(finals) > 1 and not undone and not _is_right(finals, run_faults):
            yield f"it ended {len(finals)} times: {stored.history}"
        if stored.history.count("PENDING") > 1 and not undone:
            yield f"it was claimed {stored.history.count('PENDING')} times"
        if stored.history.count("RUNNING") > (2 if _is_disturbed(stored, run_faults) else 1):
            yield f"it was RUNNING {stored.history.count('RUNNING')} times"

    def succeeded(self, stored: StoredRun) -> bool:
        return stored.state == "COMPLETED"

    def has_notice(self, stored: StoredRun) -> bool:
        """Whether it had a process: not when it was cancelled before it was claimed or started."""
        return "PENDING" in stored.history and _NEVER_STARTED not in stored.message

    def possible_ends(self, stored: StoredRun, facts: Facts, run_faults: RunFaults) -> list[End]:
        own = self._command_ends if stored.sort == COMMAND else self._flow_ends
        ends: list[End] = [own[facts.end]] if facts.end is not None and facts.end in own else []
        ends += [("CRASHED", None, name) for name in run_faults.flow_signals]
        if "SIGTERM" in run_faults.flow_signals and stored.sort != COMMAND:
            ends.append(self._terminated)
        if run_faults.oom_on_host and "SIGKILL" in run_faults.flow_signals:
            ends.append(self._probably_oom)
        if run_faults.runner_killed:
            ends += [self._lost] if facts.flows else [self._lost, self._not_started]
        if run_faults.cancelled:
            ends.append(self._cancelled)
        if _is_disturbed(stored, run_faults):
            ends += self._unheard
        return ends


def _is_right(finals: list[str], run_faults: RunFaults) -> bool:
    """Whether a second end is right: Cancelled corrects a dying engine, and an ending engine reports a SIGTERM."""
    if run_faults.cancelled and finals == ["CRASHED", "CANCELLED"]:
        return True
    return "SIGTERM" in run_faults.flow_signals and finals[1:] == ["CRASHED"]


def _is_disturbed(stored: StoredRun, run_faults: RunFaults) -> bool:
    """Whether its engine could not always talk to the server."""
    return (stored.sort != COMMAND and run_faults.server_away) or (stored.sort == THROUGH and run_faults.network_faults)


class Prefect3:
    """`prefect server start` on SQLite."""

    rules = Prefect3Rules()
    rates: ClassVar[plan.FaultRates] = plan.SLOW
    server_command = "prefect server start"
    #: It may end by the signal itself.
    good_ends = (0, -15)

    def __init__(self, base: Path, environment: Mapping[str, str]) -> None:
        home = base / "prefect"
        user = PrefectServer(home)
        user.copy_empty_database()
        self.port, self._api = user.port, user.api
        self._user = user
        self._installation = required_installation(PREFECT_3)
        arguments = ["server", "start", "--host", "127.0.0.1", "--port", str(self.port), "--no-ui"]
        environ = {**user.environ(), **environment, "HOME": str(home), "FLOWHERD_FAULTS": ""}
        self.server = Program("server", [str(self._installation.prefect), *arguments], environ, base / "server.out")
        self._path = home / "prefect.db"
        self._deployments: dict[str, str] = {}
        self._session = requests.Session()
        self._session.trust_env = False

    def start(self) -> None:
        self.server.start()
        wait_until(self.answers, timeout_s=_START_S, what=lambda: self.server.output.read_text()[-2000:])
        self._user.add_pool(_POOL)
        step = {"prefect.deployments.steps.set_working_directory": {"directory": str(_CODE)}}
        of_flow: dict[str, Any] = {"entrypoint": "flow3.py:kit", "pull_steps": [step]}
        direct = {"job_variables": {"env": {"PREFECT_API_URL": self._api}}}
        self._deployments = {
            self._user.add_deployment(_POOL, "direct", **of_flow, **direct): DIRECT,
            self._user.add_deployment(_POOL, "through", **of_flow): THROUGH,
            self._user.add_deployment(_POOL, "command"): COMMAND,
        }

    def answers(self) -> bool:
        try:
            return self.server.pid is not None and self._session.get(f"{self._api}/health", timeout=1).ok
        except requests.RequestException:
            return False

    def agent_options(self, address: str) -> list[str]:
        runtime = f"third={self._installation.python};core=3.*"
        return ["--pool", _POOL, "--api", f"{address}/api", "--runtime", runtime]

    def create(self, planned: PlannedRun) -> str:
        sort = COMMAND if planned.command else DIRECT if planned.direct else THROUGH
        deployment = next(id_ for id_, its in self._deployments.items() if its == sort)
        body: dict[str, Any] = {"state": {"type": "SCHEDULED"}}
        if planned.command:
            env = {"KIT_KIND": "command", "KIT_PARAMETERS": json.dumps(planned.parameters)}
            body["job_variables"] = {"command": f"{sys.executable} -S {_CODE / 'flow.py'}", "env": env}
        else:
            body["parameters"] = planned.parameters
        return str(self._ask(f"/deployments/{deployment}/create_flow_run", body)["id"])

    def cancel(self, run_id: str) -> bool:
        answer = self._ask(f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLING"}})
        return bool(answer["status"] != "ABORT")

    def states(self) -> dict[str, str]:
        with closing(read_only(self._path)) as connection:
            return dict(connection.execute("SELECT id, state_type FROM flow_run ORDER BY created, id").fetchall())

    def run(self, run_id: str) -> StoredRun:
        with closing(read_only(self._path)) as connection:
            return self._stored(connection, run_id)

    def fill_disk(self) -> bool:
        return False  # what Prefect's server does then is its own business

    def free_disk(self) -> None:
        pass

    def close(self) -> None:
        self._session.close()

    def _ask(self, path: str, body: Any) -> Any:
        try:
            response = self._session.post(f"{self._api}{path}", json=body, timeout=_REQUEST_S)
        except requests.RequestException as error:
            raise Unanswered(str(error)) from error
        if response.status_code >= 500:  # its database was locked
            raise Unanswered(response.text[:200])
        assert response.ok, f"{path}: {response.status_code} {response.text[:500]}"
        return response.json()

    def _stored(self, connection: sqlite3.Connection, run_id: str) -> StoredRun:
        query = "SELECT state_type, state_id, deployment_id FROM flow_run WHERE id = ?"
        state, state_id, deployment = connection.execute(query, [run_id]).fetchone()
        query = "SELECT type, id, message FROM flow_run_state WHERE flow_run_id = ? ORDER BY timestamp, created"
        states = connection.execute(query, [run_id]).fetchall()
        query = "SELECT message, name FROM log WHERE flow_run_id = ? ORDER BY timestamp, id"
        log = connection.execute(query, [run_id]).fetchall()
        return StoredRun(
            run_id=run_id,
            sort=self._deployments[deployment],
            state=state,
            message=next((message for _, id_, message in states if id_ == state_id), None) or "",
            reason=None,
            history=[row[0] for row in states],
            lines=line_numbers(text for text, logger in log if logger in _LOGGERS),
            notices=[text for text, logger in log if logger == "flowherd" and _is_end(text)],
        )


def _is_end(text: str) -> bool:
    """Whether a line is about the end of the process, which is all that the agent knows."""
    return text.startswith(("The flow run was cancelled", "The runner ")) or any(words in text for words in _AUDITS)
