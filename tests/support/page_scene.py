"""What the pages are looked at with: a server that has no runs, one, some or thousands, with names of all sorts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tests.support.dialect import Client
from tests.support.many_runs import LONG_NAME, Filling
from tests.support.server import ServerProcess, running_server

#: Would change the tab's title, if any of it ran.
EVIL = "<img src=x onerror=\"document.title='evil'\"><script>document.title='evil'</script>"
#: Names of flows, beside plain ones: HTML, a long one, one that is written from right to left, and wide letters.
NAMES = (EVIL, LONG_NAME, "גיבוי לילה \u202eabc", "夜間バックアップ" * 6, "price-feed")
_DAY_S = 86_400.0
#: Runs that go on at the same time, and schedules, at most.
_RUNNING, _SCHEDULES = 20, 200
_TRACEBACK = ["Traceback (most recent call last):", '  File "flows.py", line 3, in imported', "KeyError: 'vat_rate'"]
_LINES = ["reading orders", "\x1b[32mstep 1\x1b[0m done", "10 %\r55 %\r100 %", EVIL, "x" * 3000, *_TRACEBACK]


@dataclass
class Scene:
    """A server with its runs, and what its pages are."""

    server: ServerProcess
    #: {word: path}.
    views: dict[str, str] = field(default_factory=dict)

    @property
    def client(self) -> Client:
        return Client(self.server)

    def url(self, view: str) -> str:
        return self.server.url + self.views[view]


@contextmanager
def running_scene(data_dir: Path, runs: int) -> Iterator[Scene]:
    """Start a server that has `runs` runs; with one or more, the last is one that failed with a log and its figures."""
    going = min(_RUNNING, runs // 3)
    if runs > 1:
        _fill(data_dir, runs - 2 - going)
    with running_server(data_dir) as server:
        scene = Scene(server, dict(_PAGES))
        if runs:
            _play(scene, going)
        yield scene


_PAGES = {
    "overview": "/",
    "runs": "/runs",
    "runs with a filter": "/runs?q=state:failed,success",
    "runs with a filter that finds nothing": "/runs?q=flow:nothing-like-it+state:failed",
    "runs with a filter that is none": "/runs?q=sttae:failed",
    "flows": "/flows",
    "schedules": "/schedules",
    "agents": "/agents",
    "keys": "/keys",
    "not found": "/runs/11111111-1111-1111-1111-111111111111",
}


def _fill(data_dir: Path, runs: int) -> None:
    filling = Filling(data_dir)
    many = runs > 1000
    agent = filling.agent("etl-1", ["etl", "mail"], heard_s=5)
    filling.agent("away-" + LONG_NAME[:190], ["gpu"], heard_s=7200)
    names = [*NAMES, *(f"flow-{n}" for n in range(_SCHEDULES if many else 5))]
    flows = [filling.flow(name, cron=f"{n % 60} */2 * * *", parameters=_PARAMETERS) for n, name in enumerate(names)]
    for n in range(runs):
        flow, at = flows[n % len(flows)], 30 * _DAY_S * n / runs
        if n % 10 == 1:
            filling.run(flow, "Scheduled", due_s=-300.0 - 60 * n, labels=["etl"])
        elif n % 10 == 2:
            message = f"{EVIL} exit code 3: {'the disk is full ' * 200}"
            filling.run(flow, "Failed", due_s=at, started_s=at + 95, ended_s=at + 5, state_message=message)
        elif n % 10 == 3:
            filling.run(flow, "Cancelled", due_s=at, started_s=at + 95, ended_s=at + 5, agent_id=agent)
        else:
            filling.run(flow, "Success", due_s=at, started_s=at + 60 + n % 50, ended_s=at, name=NAMES[n % len(NAMES)])
    filling.run(flows[0], "Scheduled", due_s=900, labels=["nobody-has-this-label"])
    filling.write()


_PARAMETERS = [
    {"name": "day", "required": True, "annotation": "date"},
    {"name": "limit", "default": 10, "required": False, "annotation": "int"},
    {"name": "password", "default": "", "required": False},
]


def _play(scene: Scene, going: int) -> None:
    """Add the run that failed, those that go on, and an agent that has reported all of it."""
    agent = scene.client.agent("etl")
    flow = agent.flow(name=EVIL + " import", parameters=_PARAMETERS)
    failed = start_run(agent, flow, name=NAMES[0], parameters={"day": "2030-01-01", "password": "secret"})
    write_lines(agent, failed, _LINES)
    account = {"flowherd": {"account": account_of(time.time())}}
    agent.report(failed, "Failed", message=f"{EVIL} KeyError: 'vat_rate'", context=account)
    given = {"parameters": {"day": "2030-01-01"}}
    runs = [start_run(agent, flow, name=NAMES[n % len(NAMES)], **given) for n in range(going)]
    scene.views |= {"failed run": f"/runs/{failed}", "log of a level": f"/runs/{failed}?level=error&search=vat#L8"}
    scene.views |= {"flow": f"/flows/{flow}", "again?": f"/runs/again?run={failed}"}
    scene.views |= {"changed?": f"/runs/{failed}/changed", "run?": f"/runs/new?flow={flow}"}
    report_figures(agent, runs)
    if runs:
        write_lines(agent, runs[0], _LINES[:3])
        scene.views |= {"running run": f"/runs/{runs[0]}", "cancel?": f"/runs/cancel?run={runs[0]}&run={runs[1]}"}
        scene.views |= {"pause all?": "/schedules/pause", "pause agent?": f"/agents/pause?agent={agent.agent_id}"}


def start_run(agent: Client, flow: str, *, name: str = "", **given: Any) -> str:
    """Create a run and report, as the agent, that it goes on; return its id."""
    run_id = agent.create_run(flow, labels=["etl"], **({"flow_run_name": name} if name else {}), **given)
    agent.report(run_id, "Submitted", claim=run_id)
    agent.report(run_id, "Running", claim=run_id)
    return run_id


def write_lines(agent: Client, run_id: str, lines: list[str], *, first: int = 0, over_s: float = 0.0) -> None:
    """Send lines of a run's log, written in the last seconds, evenly; those of a traceback as an error's."""
    logs, now_s = [], time.time()
    for number, text in enumerate(lines, first):
        level = "ERROR" if text in _TRACEBACK else "INFO"
        at = datetime.fromtimestamp(now_s - over_s * (1 - number / len(lines)), timezone.utc).isoformat()
        line = {"timestamp": at, "name": "stdout", "level": level, "message": text, "info": {"stream": "stdout"}}
        logs.append({"flow_run_id": run_id, "line_id": f"1:{number * 5000}", **line})
    agent.do("write_run_logs", logs=logs)


def report_figures(agent: Client, runs: list[str]) -> None:
    """Report, as the agent, what the runs use."""
    now = time.time()
    figures = [
        {
            "id": run_id,
            "at": now,
            "memory_bytes": (300 + 70 * n) * 2**20,
            "memory_limit_bytes": 2**30,
            "cpu_share": n % 10 / 10,
            "cpu_time_s": 10.0 * n,
            "processes": 3,
            "last_line_at": now,
        }
        for n, run_id in enumerate(runs)
    ]
    host = {"host": "etl-1", "version": "0.2.0", "load": 1.2, "cpus": 4}
    report = {
        "instance": "one",
        "limit": 8,
        "runs": len(runs),
        "remote": True,
        "run_figures": figures,
        "outcomes": {},
        **host,
    }
    agent.do("offer_runs", holder="one", labels=["etl"], room=1, report=report)


def account_of(now_s: float) -> dict[str, Any]:
    """Return the account of a run's end, as an agent sends it (flowherd/story/account.py)."""
    rows = [[n, 20_000 + 900 * n, 20 + n % 60] for n in range(90)]
    return {
        "evidence": f"exit code 1 in exit.json; {EVIL}",
        "exit_code": 1,
        "cpu_time_s": 31.5,
        "peak_memory_bytes": 99 * 2**20,
        "memory_limit_bytes": 128 * 2**20,
        "leftovers": [EVIL[:80]],
        "leftovers_count": 1,
        "events": [[now_s - 90, "started", "pid 4711"], [now_s - 2, "near its limit", "118 of 128 MiB"]],
        "samples": {"start": now_s - 90, "rows": rows},
        "processes": [
            [4711, None, "python " + EVIL, 30.1, 90_000, now_s - 90],
            [4712, 4711, "sh -c x", 1.0, 900, now_s],
        ],
        "processes_at_s": now_s - 1,
    }
