"""What a server's operations cost with a thousand runs and with a million.

    python benchmarks/server_scale.py [--runs 1000 1000000] [--rounds 15] [--keep DIRECTORY]

Two real servers run side by side, on databases that fill_database.py has filled: 50 flows, runs in all states, labels,
ten log lines for a part of the runs. One run in twenty waits for an agent with other labels. The operations take
turns at both, through the clients that agents and people use. A row has the median of the small and of the large one
in milliseconds, from request to answer, and their ratio.

`--keep` leaves the filled databases in a directory, where the next call finds them. The operations add a few runs to
them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import requests

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.fill_database import LABELS, Templates
from tests.support.commands import run_command
from tests.support.server import ServerProcess, running_server

from flowherd.backends.graphql.backend import GraphQLBackend
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.client.run_filter import RunFilter
from flowherd.client.user_client import UserClient
from flowherd.states import FINISHED, RunState
from flowherd.values import AgentIdentity, FlowRun, LogLine, StateReport

UNFINISHED = sorted(state.value for state in RunState if state not in FINISHED)
_FIELDS = "id name state created"
_NEWEST_LINES = (
    'log(where: {{level: {{_eq: "{}"}}}}, order_by: {{timestamp: desc}}, limit: 10) {{ id timestamp message }}'
)


class Measured:
    """One server, its clients, and the operations on it."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._graphql = GraphQLTransport(server.url, "")
        self._people = UserClient(GraphQLTransport(server.url, ""))
        self._http = requests.Session()
        self._agent = GraphQLBackend(GraphQLTransport(server.url, ""))
        self._agent.connect()
        self._agent.register(AgentIdentity(type="FlowherdAgent", name="measured", labels=LABELS))
        flows = self._rows("flow(where: {archived: {_eq: false}}, order_by: {name: asc}) { id name }", "flow")
        self._flow_id, self._flow_name = flows[0]["id"], flows[0]["name"]
        run = self._rows("flow_run(limit: 1, offset: 5, order_by: {created: desc}) { id name }", "flow_run")[0]
        self._id, self._name = run["id"], run["name"]
        self._running = [
            row["id"] for row in self._rows('flow_run(where: {state: {_eq: "Running"}}) { id }', "flow_run")
        ]
        #: The run that was created last, and what the queue said of it.
        self._created = ""
        self._due: list[FlowRun] = []

    def _rows(self, text: str, name: str) -> Any:
        return self._graphql.execute(f"query {{ {text} }}")[name]

    def _query(self, text: str) -> None:
        self._graphql.execute(f"query {{ {text} }}")

    def _newest(self, where: str = "", order: str = "created", limit: int = 10) -> None:
        where = f"where: {{{where}}}, " if where else ""
        self._query(f"flow_run({where}order_by: {{{order}: desc}}, limit: {limit}) {{ {_FIELDS} }}")

    def operations(self) -> dict[str, Callable[[], Any]]:
        """Return what is measured, by the name of its row."""
        month_ago = (datetime.now(timezone.utc) - timedelta(days=15)).isoformat()
        counts = " ".join(
            f'{state.name}: flow_run_aggregate(where: {{state: {{_eq: "{state}"}}}}) {{ aggregate {{ count }} }}'
            for state in RunState
        )
        each_flow = "flow {{ name flow_runs(order_by: {{{}: desc}}, limit: 1) {{ id state }} }}".format
        return {
            "find by beginning of id": lambda: self._people.runs.find(self._id[:7]),
            "find by name": lambda: self._people.runs.find(self._name),
            "find by id": lambda: self._people.runs.get(self._id),
            "ps": lambda: self._people.runs.newest(states=UNFINISHED, limit=100),
            "ps --all": lambda: self._people.runs.newest(limit=100),
            "ps on a terminal": lambda: self._people.run_list.overview(RunFilter(), datetime.now(timezone.utc), 100),
            "ps --all on a terminal": lambda: self._people.run_list.groups(
                RunFilter(), datetime.now(timezone.utc), 100
            ),
            "flows": lambda: self._people.flow_list.all(),
            "schedule ls": lambda: self._people.schedules.find(datetime.now(timezone.utc)),
            "names like": lambda: self._newest(f'name: {{_like: "{self._name[:-1]}%"}}'),
            "newest of each flow, created": lambda: self._query(each_flow("created")),
            "newest of each flow, scheduled": lambda: self._query(each_flow("scheduled_start_time")),
            "newest of each flow, started": lambda: self._query(each_flow("start_time")),
            "newest of each flow, distinct_on": lambda: self._query(
                f"flow_run(distinct_on: flow_id, order_by: [{{flow_id: asc}}, {{created: desc}}]) {{ {_FIELDS} }}"
            ),
            "newest of one flow by name": lambda: self._newest(
                f'flow: {{name: {{_eq: "{self._flow_name}"}}}}, start_time: {{_is_null: false}}', "start_time"
            ),
            "newest failed, created": lambda: self._newest('state: {_eq: "Failed"}'),
            "newest failed, ended": lambda: self._newest('state: {_eq: "Failed"}', "end_time"),
            "newest failed, started": lambda: self._newest('state: {_in: ["Failed", "TimedOut"]}', "start_time"),
            "newest timed out (none)": lambda: self._newest('state: {_eq: "TimedOut"}'),
            "since a time, created": lambda: self._newest(f'created: {{_gte: "{month_ago}"}}'),
            "until a time, started": lambda: self._newest(f'start_time: {{_lte: "{month_ago}"}}', "start_time"),
            "until a time, scheduled": lambda: self._newest(
                f'scheduled_start_time: {{_lte: "{month_ago}"}}', "scheduled_start_time"
            ),
            "until a time, ended": lambda: self._newest(f'end_time: {{_lte: "{month_ago}"}}', "end_time"),
            "counts by state": lambda: self._query(counts),
            "counts by flow": lambda: self._query("flow { flow_runs_aggregate { aggregate { count } } }"),
            "newest errors of all runs": lambda: self._query(_NEWEST_LINES.format("ERROR")),
            "newest critical lines (none)": lambda: self._query(_NEWEST_LINES.format("CRITICAL")),
            "newest runs with errors": lambda: self._newest('logs: {level: {_eq: "ERROR"}}'),
            "newest with critical lines (none)": lambda: self._newest("log_critical: {_gt: 0}"),
            "warnings of a run": lambda: self._query(
                f'log(where: {{flow_run_id: {{_eq: "{self._id}"}}, level: {{_eq: "WARNING"}}}}) {{ message }}'
            ),
            "log of a run": lambda: self._people.log(self._id).next_lines(),
            "history of a run": lambda: self._people.history(self._id).states(),
            "status page": lambda: self._get("/"),
            "health": lambda: self._get("/health"),
            "flowherd ps --all": lambda: self._command("ps", "--all"),
            "create": self._create,
            "poll": lambda: self._agent.ready_runs(LABELS, ()),
            "claim": self._claim,
            "heartbeat of 20 runs": lambda: self._agent.heartbeat(self._running),
            "log of 10 lines": self._log,
            "end": lambda: self._report(RunState.SUCCESS),
        }

    def _get(self, path: str) -> None:
        self._http.get(self._server.url + path, timeout=60).raise_for_status()

    def _command(self, *arguments: str) -> None:
        environment = {"FLOWHERD__CLOUD__API": self._server.url, "FLOWHERD_HOME": str(self._server.home)}
        done = run_command(arguments, environment, 60)
        assert done.returncode == 0, done.stderr

    def _create(self) -> None:
        self._created = self._people.runs.create(self._flow_id, parameters={})

    def prepare(self, name: str) -> None:
        """Do what must come before an operation and is not measured with it."""
        if name == "claim" and not self._due:
            self._due = self._agent.ready_runs(LABELS, ())
        if name == "end":
            self._report(RunState.RUNNING)
            self._due = []

    def _claim(self) -> None:
        self._agent.claim(next(run for run in self._due if run.id == self._created), "token")

    def _log(self) -> None:
        now = datetime.now(timezone.utc)
        self._agent.write_logs(
            [
                LogLine(
                    flow_run_id=self._running[0],
                    at=now,
                    stream="stdout",
                    level=20,
                    logger="stdout",
                    message=f"line {number} {'x' * 60}",
                    line_id=f"{uuid.uuid4()}:{number}",
                )
                for number in range(10)
            ]
        )

    def _report(self, state: RunState) -> None:
        now = datetime.now(timezone.utc)
        report = StateReport(flow_run_id=self._created, state=state, message="reported", at=now, claim="token")
        self._agent.report(report)


def measure(servers: list[Measured], rounds: int) -> dict[str, list[list[float]]]:
    """Return for each operation the seconds that it took at each server."""
    operations = [server.operations() for server in servers]
    taken: dict[str, list[list[float]]] = {name: [[] for _ in servers] for name in operations[0]}
    for number in range(rounds + 1):
        for name in operations[0]:
            if name.startswith("flowherd ") and number > 3:
                continue
            for at in range(len(servers)):
                servers[at].prepare(name)
                began = time.perf_counter()
                operations[at][name]()
                if number:
                    taken[name][at].append(time.perf_counter() - began)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs=2, default=[1_000, 1_000_000], help="runs in the two databases")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--keep", type=Path, help="directory for the filled databases, to use them again")
    options = parser.parse_args()
    with ExitStack() as stack:
        place = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flowherd-benchmark-")))
        place.mkdir(parents=True, exist_ok=True)
        directories = [place / str(runs) for runs in options.runs]
        templates = None
        for directory, runs in zip(directories, options.runs, strict=True):
            if not directory.exists():
                templates = templates or Templates(place / f"templates-{uuid.uuid4()}")
                began = time.monotonic()
                templates.fill(directory, runs)
                print(f"filled {runs} runs in {time.monotonic() - began:.0f} s")
        servers, starts = [], []
        for directory in directories:
            began = time.perf_counter()
            servers.append(stack.enter_context(running_server(directory)))
            starts.append(time.perf_counter() - began)
        taken = {"start of the server": [[start] for start in starts]}
        taken |= measure([Measured(server) for server in servers], options.rounds)
    print(f"{'milliseconds':36}{options.runs[0]:>12}{options.runs[1]:>12}{'ratio':>8}")
    for name, (small, large) in taken.items():
        one, other = statistics.median(small) * 1000, statistics.median(large) * 1000
        print(f"{name:36}{one:12.2f}{other:12.2f}{other / one:8.2f}")


if __name__ == "__main__":
    main()
