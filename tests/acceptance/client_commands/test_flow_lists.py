"""`flowherd flows` and `flowherd flow NAME`: trouble first, and all that is known of one flow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flowherd.cli.tables.cells import width_of
from tests.acceptance.client_commands.helpers import HOST
from tests.support.commands import CommandLine
from tests.support.leftovers import none_left
from tests.support.many_runs import LONG_NAME, Filling
from tests.support.server import running_server
from tests.support.terminal import screen

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]

HOUR_S = 3600.0


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    data = tmp_path_factory.mktemp("flows") / "data"
    filling = Filling(data)
    good, bad, late, busy = (filling.flow(name) for name in ("good", "invoices", LONG_NAME, "busy"))
    filling.flow("never")
    for n in range(6):
        at_s = HOUR_S * (n + 2)
        filling.run(good, "Success", due_s=at_s, started_s=at_s, ended_s=at_s - 60 - n)
    filling.run(bad, "Success", due_s=500, started_s=500, ended_s=400)
    for at_s in (300.0, 200.0):
        filling.run(bad, "Failed", due_s=at_s, started_s=at_s, ended_s=at_s - 50, state_message="no such column")
    filling.run(bad, "Scheduled", due_s=-600)
    filling.run(late, "Scheduled", due_s=120)
    filling.run(busy, "Running", due_s=120, started_s=110)
    filling.write()
    with none_left(), running_server(data) as server:
        yield CommandLine(server.home)


def test_flows_has_trouble_first_and_tells_how_the_last_runs_went(host: CommandLine) -> None:
    flows = {flow["name"]: flow for flow in host.json("flows")}
    assert list(flows) == ["invoices", LONG_NAME, "busy", "good", "never"]
    assert (flows["invoices"]["failures_in_a_row"], flows["invoices"]["last_state"]) == (2, "Failed")
    assert flows["invoices"]["runs"] == ["Failed", "Failed", "Success"]
    assert (flows[LONG_NAME]["late"], flows["busy"]["running"], flows["never"]["runs"]) == (True, 1, [])
    assert flows["good"]["usually_s"] == pytest.approx(62.5)
    assert flows["busy"]["usually_s"] is None
    assert [flow["name"] for flow in host.json("flows", "--sort", "-flow")][:2] == [LONG_NAME, "never"]
    assert [flow["name"] for flow in host.json("flows", "*oo*")] == ["good"]


def test_flows_fits_80_columns(host: CommandLine) -> None:
    title, *rows = screen(host, "flows")
    assert title.split()[:4] == ["FLOW", "LAST", "NEXT", "RUNS"]
    assert all(width_of(line) <= 80 for line in (title, *rows))
    first = rows[0].split()
    assert first[:3] == ["invoices", "Failed", "\N{MULTIPLICATION SIGN}2"] and "\u2713\u2715\u2715" in rows[0]
    assert rows[1].startswith("wareho") and "Late" in rows[1] and "due " in rows[1]
    assert "Running" in rows[2] and "1m02s" in rows[3]


def test_flow_shows_definition_schedule_parameters_versions_and_last_runs(host: CommandLine) -> None:
    run = ["--command", "--", "echo", "{target}"]
    schedule = ["--cron", "30 2 * * *", "--timezone", "Europe/Berlin"]
    isolation = ["--isolation", "sealed", "--write", "/srv/out"]
    host("register", "nightly", "-p", "target=home", "-e", "KEY=value", *run)
    host("register", "nightly", "-p", "target=home", "-e", "KEY=value", "--memory", "2G", *schedule, *isolation, *run)
    run_id = host.run("nightly", "--run-name", "by hand")
    host("cancel", run_id)
    lines = {line.split()[0]: line.strip() for line in host("flow", "nightly").stdout.splitlines() if line.strip()}
    assert "version 2 of project" in lines["nightly,"]
    assert lines["command"].endswith("echo '{target}'")
    assert lines["variables"].endswith("KEY") and lines["labels"].endswith(HOST)
    assert lines["limits"].endswith("memory 2G") and lines["parameters"].endswith('target="home"')
    assert lines["schedule"].endswith("daily at 02:30 (30 2 * * *, Europe/Berlin)")
    assert len(lines["next"].split(",")) == 5
    assert lines["versions"].count("(") == 2
    assert lines["isolation"].endswith("sealed, writes /srv/out")
    (listed,) = host.json("flows", "nightly")
    assert listed["isolation"] == {"level": "sealed", "write": ["/srv/out"]}
    assert "by hand" in lines[run_id] and "Cancelled" in lines[run_id]
    facts = host.json("flow", "nightly", "--runs", "1")
    assert (len(facts["next_times"]), facts["defaults"], facts["run_config"]["env"]) == (5, {"target": "home"}, ["KEY"])
    assert [run["id"] for run in facts["last_runs"]] == [run_id]
    assert [version["version"] for version in facts["versions"]] == [2, 1]
    assert "did you mean nightly?" in host("flow", "nigtly", code=4).stderr


def test_flows_counts_digits_in_a_name_as_a_number(host: CommandLine) -> None:
    for name in ("step10", "step2", "step"):
        host("register", name, "--command", "--", "true")
    assert [flow["name"] for flow in host.json("flows", "step*")] == ["step", "step2", "step10"]


def test_flow_shows_times_in_the_zone_of_the_schedule_and_its_end(host: CommandLine) -> None:
    """As register does: the times of a schedule of Tokyo at 09:00 are not those of this host."""
    host(
        "register",
        "tokyo",
        "--cron",
        "0 9 * * *",
        "--timezone",
        "Asia/Tokyo",
        "--until",
        "2040-12-01",
        "--command",
        "--",
        "true",
    )
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in host("flow", "tokyo").stdout.splitlines()}
    assert [at[-5:] for at in lines["next"].split(", ")] == ["09:00"] * 5
    assert lines["until"] == "Sat 2040-12-01 23:59"
    host("delete", "flow", "tokyo", "--yes")


def test_schedules_lists_what_schedule_ls_lists(host: CommandLine) -> None:
    host("register", "hourly", "--interval", "1h", "--command", "--", "true")
    assert "hourly" in {schedule["flow"] for schedule in host.json("schedules")}
    assert host("schedules").stdout == host("schedule", "ls").stdout
