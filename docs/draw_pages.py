"""Makes pictures of the server's pages, docs/pictures/page-*.png, in Debian's Chromium.

    python docs/draw_pages.py [DIRECTORY]

It starts a server on a database with a made-up night of an operator: runs that went well, one that fails, one that is
late, an agent that is away, and runs that go on with figures. The name of this host is replaced.
"""

from __future__ import annotations

import math
import platform
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from playwright.sync_api import Browser, Page
from tests.support.browser import running_browser
from tests.support.dialect import Client
from tests.support.many_runs import Filling
from tests.support.page_scene import start_run, write_lines
from tests.support.server import ServerProcess, running_server

from flowherd_server.store.database import FILE_NAME

PLACE = Path(__file__).with_name("pictures")
_HOUR_S = 3600.0
_HOST = "etl-1"
#: How long the run took that fails, seconds.
_FAILED_AFTER_S = 412.0
#: Flows: how often they run, how long they take, seconds, and their schedule.
_FLOWS = {
    "price-feed": (_HOUR_S / 2, 95, "*/30 * * * *"),
    "orders": (_HOUR_S, 240, "5 * * * *"),
    "invoices": (2 * _HOUR_S, 410, "20 */2 * * *"),
    "warehouse-nightly": (24 * _HOUR_S, 9200, "30 2 * * *"),
    "database-backup": (6 * _HOUR_S, 1300, "0 */6 * * *"),
    "mail-digest": (24 * _HOUR_S, 40, "0 6 * * *"),
    "train-forecast": (24 * _HOUR_S, 5200, "15 1 * * *"),
}
#: Runs that go on: since when, seconds; memory and limit, MiB; share of a processor; the last line.
_GOING = {
    "warehouse-nightly": (4730, 1870, 4096, 0.86, "copied 18,204,311 of 22,118,040 rows of sales.order_item"),
    "train-forecast": (3100, 2580, 3072, 1.92, "epoch 31 of 40: loss 0.0831"),
    "orders": (130, 212, 1024, 0.24, "1,204 orders since 14:05"),
    "price-feed": (21, 96, 512, 0.11, "reading https://prices.example.com/v2/feed"),
}
_LOG = """\
reading invoices of 2026-01-31
4,118 invoices, 3 currencies
\x1b[33mcurrency CHF has no rate of today, that of yesterday is taken\x1b[0m
writing invoices 1 to 1,000
writing invoices 1,001 to 2,000
invoice 1,733 of customer 40991 has no VAT rate
Traceback (most recent call last):
  File "/srv/flows/invoices.py", line 88, in write
    total = net * (1 + rates[invoice["vat_rate"]])
KeyError: 'vat_rate'"""


@dataclass(frozen=True)
class Picture:
    """A page in a window."""

    name: str
    path: str
    width: int = 1280
    height: int = 860


def fill(data_dir: Path) -> tuple[str, dict[str, str]]:
    """Store what happened and goes on; return the id of the agent, and the runs that go on by their flows."""
    filling = Filling(data_dir)
    agent, going = filling.agent(_HOST, ["etl", "mail"], heard_s=2), {}
    filling.agent("gpu-2", ["gpu"], heard_s=1500, report={"instance": "2", "host": "gpu-2", "limit": 2})
    for flow, (every_s, takes_s, cron) in _FLOWS.items():
        flow_id = filling.flow(flow, cron=cron, storage={"type": "Python", "ref": f"{flow}:main"})
        for number in range(30, 0, -1):
            ended_s = number * every_s * 0.97 + takes_s
            took_s = takes_s * (1 + 0.25 * math.sin(number * 1.7))
            ends: dict[str, Any] = {
                "due_s": ended_s + took_s,
                "started_s": ended_s + took_s,
                "ended_s": ended_s,
                "agent_id": agent,
            }
            fails = number % 17 == 9 and flow != "mail-digest"
            message = "Exit code 1: the connection to warehouse-db was refused." if fails else None
            filling.run(flow_id, "Failed" if fails else "Success", state_message=message, **ends)
        if flow in _GOING:
            since: dict[str, Any] = {"due_s": _GOING[flow][0] + 0.4, "started_s": _GOING[flow][0], "agent_id": agent}
            going[flow] = filling.run(flow_id, "Running", **since)
    filling.run(flow_id, "Scheduled", due_s=1420, name="hourly-forecast", labels=["gpu"])
    filling.write()
    return agent, going


def play(server: ServerProcess, agent_id: str, going: dict[str, str]) -> str:
    """Have the runs that go on write and be measured, and another one fail; return the id of that one."""
    agent = Client(server, agent_id)
    ids = {row["name"]: row["id"] for row in agent.ask("{ flow { id name } }")["flow"]}
    failed = start_run(agent, ids["invoices"], name="invoices-2026-01-31", parameters={"day": "2026-01-31"})
    _age(server.data_dir / FILE_NAME, failed)
    write_lines(agent, failed, _LOG.split("\n"), over_s=_FAILED_AFTER_S - 1)
    for flow, run_id in going.items():
        write_lines(agent, run_id, [_GOING[flow][4]])
    for step in range(40):
        agent.do("offer_runs", holder="1", labels=["etl"], room=1, report=_report(going, step))
    now_s = time.time()
    agent.report(failed, "Failed", message="KeyError: 'vat_rate'", context={"flowherd": {"account": _account(now_s)}})
    return failed


def _age(database: Path, run_id: str) -> None:
    """Have a run begin earlier than it has."""
    shift = round(_FAILED_AFTER_S * 1e6)
    with closing(sqlite3.connect(database)) as connection:
        for table, where in (("flow_run", "id = ?"), ("run_state", "run = (SELECT seq FROM flow_run WHERE id = ?)")):
            for column in ("created", "scheduled_start_time", "start_time", "state_timestamp", "timestamp"):
                if column in {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}:
                    connection.execute(f"UPDATE {table} SET {column} = {column} - {shift} WHERE {where}", (run_id,))
        connection.commit()


def _report(going: dict[str, str], step: int) -> dict[str, Any]:
    figures = []
    for flow, run_id in going.items():
        _, memory, limit, cpu, _ = _GOING[flow]
        wave = 1 + 0.1 * math.sin(step / 3 + len(flow))
        figures.append(
            {
                "id": run_id,
                "at": time.time() - 80 + 2 * step,
                "memory_bytes": round(memory * wave * 2**20),
                "memory_limit_bytes": limit * 2**20,
                "cpu_share": cpu * wave,
                "processes": 1 + len(flow) % 4,
            }
        )
    about = {"instance": "1", "host": _HOST, "version": "0.2.0", "load": 1.4, "cpus": 4, "remote": True, "outcomes": {}}
    return {"limit": 8, "runs": len(going), "run_figures": figures, "unsent_bytes": 0, **about}


def _account(now_s: float) -> dict[str, Any]:
    rows = [
        [4.5 * n, round(90_000 + 2200 * n + 9000 * math.sin(n / 4)), round(55 + 30 * math.sin(n / 6))]
        for n in range(90)
    ]
    tree = [[41811, None, "python -m flowherd_runner invoices.py:main", 71.2, 296_000, now_s - _FAILED_AFTER_S]]
    return {
        "evidence": "its exit.json says so",
        "exit_code": 1,
        "cpu_time_s": 71.4,
        "peak_memory_bytes": 318 * 2**20,
        "memory_limit_bytes": 512 * 2**20,
        "events": [[now_s - _FAILED_AFTER_S, "started", "pid 41811"]],
        "samples": {"start": now_s - _FAILED_AFTER_S, "rows": rows},
        "processes": tree,
        "processes_at_s": now_s - 1,
    }


def draw(browser: Browser, server: ServerProcess, pictures: list[Picture], place: Path) -> None:
    """Write each picture."""
    for picture in pictures:
        context = browser.new_context(
            viewport={"width": picture.width, "height": picture.height}, timezone_id="UTC", locale="en-GB"
        )
        page = context.new_page()
        page.goto(server.url + picture.path)
        page.wait_for_selector("#live:not([hidden])")
        _hide_host(page)
        page.screenshot(path=place / f"{picture.name}.png", animations="disabled")
        context.close()


def _hide_host(page: Page) -> None:
    page.evaluate(
        """([name, other]) => {
          const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          while (walker.nextNode()) walker.currentNode.data = walker.currentNode.data.replaceAll(name, other);
        }""",
        [platform.node(), _HOST],
    )


def main() -> None:
    """Make all pictures."""
    place = Path(sys.argv[1]) if sys.argv[1:] else PLACE
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "data"
        agent, going = fill(data)
        with running_server(data) as server, running_browser() as browser:
            failed = play(server, agent, going)
            pictures = [
                Picture("page-overview", "/"),
                Picture("page-run", f"/runs/{failed}"),
                Picture("page-flow", "/flows/invoices"),
                Picture("page-phone", "/", 375, 760),
            ]
            draw(browser, server, pictures, place)


if __name__ == "__main__":
    main()
