"""Flowherd's own GraphQL server under the kit."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import ClassVar

from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.client.user_client import UserClient
from flowherd.errors import BackendError
from flowherd.states import FINISHED
from flowherd_runner.contract import reasons
from flowherd_server.__main__ import DATABASE_UNUSABLE
from tests.faults import plan
from tests.faults.backends import Unanswered
from tests.faults.evidence import Facts, StoredRun, line_numbers, read_only
from tests.faults.invariants import End, RunFaults
from tests.faults.plan import PlannedRun
from tests.faults.program import Program
from tests.support.small_disk import fill_up, mount, unmount
from tests.support.waiting import wait_until

FLOW_FILE = Path(__file__).parent.with_name("flow.py")
_READY = re.compile(r"flowherd server ready at http://\S+?:(\d+) ")
_START_S = 40.0
#: Size of the server's disk. A session of half an hour fills a quarter of it.
_DISK_SIZE = "512m"


class EmbeddedRules:
    """The agent reports every state of its runs, and the reason of the end."""

    finals = FINISHED
    #: The end is reported when all processes of the run have ended.
    agent_ends_runs = True
    traceless_points = plan.BEFORE_USER_CODE
    #: Ends that the flow chooses.
    _own_ends: Mapping[str, End] = {
        "ok": ("Success", reasons.REASON_EXITED, "code 0"),
        "code": ("Failed", reasons.REASON_EXITED, "code 3"),
        "raise": ("Failed", reasons.REASON_EXCEPTION, "as planned"),
    }
    #: End of a command that raises.
    _raising_command: End = ("Failed", reasons.REASON_EXITED, "code 1")
    _lost: End = ("Failed", reasons.REASON_LOST, "")
    _cancelled: End = ("Cancelled", reasons.REASON_CANCELLED, "")
    #: The server itself cancels a run that no agent has reported as running yet.
    _cancelled_by_server: End = ("Cancelled", None, "")
    _probably_oom: End = ("Failed", reasons.REASON_OOM, "probable")
    _not_started: End = ("Failed", reasons.REASON_NOT_STARTED, "")

    def doubled(self, stored: StoredRun, _run_faults: RunFaults) -> Iterator[str]:
        """A run starts once and ends once."""
        finals = [state for state in stored.history if state in FINISHED]
        if len(finals) > 1:
            yield f"it ended {len(finals)} times"
        for once in ("Submitted", "Running"):
            if stored.history.count(once) > 1:
                yield f"it was {once} {stored.history.count(once)} times"

    def succeeded(self, stored: StoredRun) -> bool:
        return stored.state == "Success"

    def has_notice(self, _stored: StoredRun) -> bool:
        return True

    def possible_ends(self, _stored: StoredRun, facts: Facts, run_faults: RunFaults) -> list[End]:
        """Return one end, or more when a process was killed while the run was about to end by itself."""
        if not facts.flows:
            return [self._not_started, self._lost] if run_faults.runner_killed else []
        ends: list[End] = []
        if facts.end is not None and facts.end in self._own_ends:
            ends.append(self._own_ends[facts.end])
        if facts.end == "raise":
            ends.append(self._raising_command)
        ends += [("Failed", reasons.REASON_SIGNAL, name) for name in run_faults.flow_signals]
        if run_faults.oom_on_host and "SIGKILL" in run_faults.flow_signals:
            ends.append(self._probably_oom)
        if run_faults.runner_killed:
            ends.append(self._lost)
        if run_faults.cancelled:
            ends += [self._cancelled, self._cancelled_by_server]
        return ends


class Embedded:
    """`flowherd server` on SQLite."""

    rules = EmbeddedRules()
    rates: ClassVar[plan.FaultRates] = plan.FAST
    server_command = "flowherd_server"
    good_ends = (0,)

    def __init__(self, base: Path, environment: Mapping[str, str]) -> None:
        self._base = base
        self.port = 0
        self.server = Program("server", self._argv(), environment, base / "server.out", explained=(DATABASE_UNUSABLE,))
        self._data = base / "server"
        self._has_own_disk = not mount(self._data, _DISK_SIZE)
        self._ballast = self._data / "ballast"
        self._path = self._data / "flowherd.sqlite"
        #: What the database last said.
        self._states: dict[str, str] = {}
        self._connection: UserClient | None = None
        #: Ids of the flows, by whether they are commands and by their level of isolation.
        self._flow_ids: dict[tuple[bool, str], str] = {}

    def start(self) -> None:
        self.server.start()
        self.port = int(wait_until(self._announced, timeout_s=_START_S, what=self._output)[1])
        self.server.argv = self._argv()

    def answers(self) -> bool:
        return self.server.pid is not None

    def agent_options(self, address: str) -> list[str]:
        return ["-a", address, "--no-hostname-label"]

    def create(self, planned: PlannedRun) -> str:
        try:
            return self._client.runs.create(self._flow_id(planned), parameters=planned.parameters)
        except BackendError as error:
            raise Unanswered(str(error)) from error

    def cancel(self, run_id: str) -> bool:
        try:
            self._client.runs.cancel(run_id)
        except BackendError as error:
            raise Unanswered(str(error)) from error
        return True

    def states(self) -> dict[str, str]:
        try:
            with closing(read_only(self._path)) as connection:
                found = connection.execute("SELECT id, state FROM flow_run ORDER BY seq").fetchall()
        except sqlite3.OperationalError:
            if not self._ballast.exists():  # without room, SQLite cannot always be read either
                raise
        else:
            self._states = dict(found)
        return self._states

    def run(self, run_id: str) -> StoredRun:
        with closing(read_only(self._path)) as connection:
            return _stored(connection, run_id)

    def fill_disk(self) -> bool:
        if self._has_own_disk:
            fill_up(self._data)
        return self._has_own_disk

    def free_disk(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._has_own_disk:
            self._has_own_disk = False
            self.free_disk()
            shutil.copytree(self._data, self._data.with_name("server-at-the-end"))
            unmount(self._data)

    @property
    def _client(self) -> UserClient:
        """A person's connection, without the proxy."""
        if self._connection is None:
            self._connection = UserClient(GraphQLTransport(f"http://127.0.0.1:{self.port}", timeout_s=5.0))
        return self._connection

    def _flow_id(self, planned: PlannedRun) -> str:
        """Return the id of the flow of such runs, which is registered when it is first needed."""
        key = planned.command, planned.level
        if key not in self._flow_ids:
            project = self._client.flows.ensure_project("kit")
            self._flow_ids[key] = self._client.flows.register(project, _document(planned)).id
        return self._flow_ids[key]

    def _announced(self) -> re.Match[str] | None:
        return _READY.search(self._output())

    def _output(self) -> str:
        return self.server.output.read_text() if self.server.output.exists() else ""

    def _argv(self) -> list[str]:
        where = ["--port", str(self.port), "--data-dir", str(self._base / "server"), "--home", str(self._base / "home")]
        return [sys.executable, "-m", "flowherd_server", *where]


def _stored(connection: sqlite3.Connection, run_id: str) -> StoredRun:
    query = "SELECT state, serialized_state, state_message FROM flow_run WHERE id = ?"
    state, serialized, message = connection.execute(query, [run_id]).fetchone()
    query = "SELECT state FROM flow_run_state WHERE flow_run_id = ? ORDER BY version"
    history = [row[0] for row in connection.execute(query, [run_id])]
    query = "SELECT message, info FROM log WHERE flow_run_id = ? ORDER BY timestamp, id"
    log = connection.execute(query, [run_id]).fetchall()
    ours = (json.loads(serialized).get("context") or {}).get("flowherd") or {}
    streams = [(text, json.loads(info or "{}").get("stream")) for text, info in log]
    return StoredRun(
        run_id=run_id,
        state=state,
        message=message or "",
        reason=ours.get("reason"),
        history=history,
        lines=line_numbers(text for text, stream in streams if stream in ("stdout", "log")),
        notices=[text for text, stream in streams if stream == "flowherd" and _is_end(text)],
    )


def _is_end(text: str) -> bool:
    return text.startswith(tuple(f"{state}: " for state in FINISHED))


def _document(planned: PlannedRun) -> dict[str, object]:
    python = {"type": "Python", "ref": f"{FLOW_FILE}:main"}
    command = {"type": "Command", "argv": [sys.executable, "-S", str(FLOW_FILE)]}
    config: dict[str, object] = {"type": "LocalRun", "env": {"KIT_KIND": "command"} if planned.command else {}}
    if planned.level == "sealed":
        config["isolation"] = {"level": planned.level, "write": [planned.parameters["facts"]]}
    elif planned.level == "private":  # its /tmp is its own, but for its working directory
        config |= {"isolation": planned.level, "working_dir": planned.parameters["facts"]}
    return {
        "name": f"kit-{'command' if planned.command else 'python'}-{planned.level}",
        "type": "flowherd.Flow",
        "schedule": None,
        "parameters": [],
        "tasks": [],
        "edges": [],
        "reference_tasks": [],
        "storage": command if planned.command else python,
        "run_config": config,
    }


class EmbeddedCrowd(Embedded):
    """The same with hundreds of runs at once."""

    rates: ClassVar[plan.FaultRates] = plan.CROWD
