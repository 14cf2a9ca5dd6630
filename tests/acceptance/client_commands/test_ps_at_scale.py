"""`flowherd ps` where 5,000 runs are scheduled and 50 are running, all with names of 200 characters."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from flowherd.cli.tables.cells import width_of
from tests.support.commands import CommandLine
from tests.support.leftovers import none_left
from tests.support.many_runs import LONG_NAME, busy_host
from tests.support.server import ServerProcess, running_server
from tests.support.terminal import on_terminal, screen

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]

RUNNING, SCHEDULED = 50, 5000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data = tmp_path_factory.mktemp("busy") / "data"
    busy_host(data, scheduled=SCHEDULED, running=RUNNING)
    with none_left(), running_server(data) as server:
        yield server


@pytest.fixture
def busy(server: ServerProcess) -> CommandLine:
    return CommandLine(server.home)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 50)])
def test_what_runs_comes_first_and_no_name_pushes_a_column_off_the_screen(
    busy: CommandLine, width: int, height: int
) -> None:
    title, *rows, cut = screen(busy, "ps", width=width, height=height)
    columns = title.split()
    assert columns[:4] == ["ID", "STATE", "FLOW", "NAME"] and "TIME" in columns
    assert all(width_of(line) <= width for line in [title, *rows, cut])
    states = [row.split()[1] for row in rows]
    # The longest first: each began a second before the next.
    assert states[:RUNNING] == ["Running"] * RUNNING
    assert states[RUNNING : RUNNING + 2] == ["Late", "Failed"]
    assert set(states[RUNNING + 2 :]) == {"Scheduled"} and len(states) > RUNNING + 4
    name_at = title.index("NAME")
    cells = [row[name_at:].split()[0] for row in rows[:RUNNING]]
    assert all(cell.startswith("ware") and cell.endswith("rds") and "…" in cell for cell in cells)
    assert "more scheduled, 200 ended: --all, --limit N" in cut


def test_failures_in_a_row_are_one_line_and_a_flow_has_one_next_run(busy: CommandLine) -> None:
    rows = screen(busy, "ps", "--limit", "100", width=200, height=200)
    assert sum("Failed \N{MULTIPLICATION SIGN}3" in row for row in rows) == 1
    following = [row for row in rows if "Scheduled" in row]
    assert len(following) == 10
    assert all("every 5 minutes; " in row and " more within the hour" in row for row in following)
    assert sum("No agent with the labels mailer is running" in row for row in rows) == 1


def test_a_script_gets_the_newest_runs_that_run_or_wait_each_with_its_group(busy: CommandLine) -> None:
    runs = busy.json("ps", "--limit", "10000")
    groups = [run["group"] for run in runs]
    assert (groups.count("running"), len(runs)) == (RUNNING, len({run["id"] for run in runs}))
    assert set(groups) == {"running", "due", "next"}
    assert groups.count("due") + groups.count("next") >= SCHEDULED + 1
    done = busy("ps")
    assert len(done.stdout.splitlines()) == 101
    assert LONG_NAME in busy("ps", "--state", "Running").stdout
    assert "… " in done.stderr and "more: --limit" in done.stderr


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--state", "bad"], ["run-5050", "run-5051", "run-5052"]),
        (["--state", "Failed,TimedOut", "--sort", "start", "--limit", "1"], ["run-5052"]),
        (["--label", "mailer", "--search", "LATE"], ["late"]),
        (["--flow", "*00", "--state", "failed"], ["run-5050", "run-5051", "run-5052"]),
        (["--flow", "*01", "--state", "failed"], []),
        (["--since", "20m", "--until", "9m", "--state", "waiting"], ["late"]),
    ],
    ids=" ".join,
)
def test_filters_choose_runs(busy: CommandLine, options: list[str], names: list[str]) -> None:
    assert sorted(run["name"] for run in busy.json("ps", *options)) == names


def test_ids_and_fields_are_for_scripts(busy: CommandLine) -> None:
    ids = busy("ps", "-q", "--state", "bad").stdout.split()
    assert sorted(ids) == sorted(run["id"] for run in busy.json("ps", "--state", "bad"))
    newest_first = [{"name": f"run-505{n}", "state": "Failed"} for n in (0, 1, 2)]
    assert busy.json("ps", "--state", "bad", "--sort", "-time", "--fields", "name,state") == newest_first
    assert busy.json("ps", "--state", "bad", "--sort", "time", "--fields", "name,state") == newest_first[::-1]
    title, *rows = busy("ps", "--state", "bad", "--fields", "name,took").stdout.splitlines()
    assert title.split() == ["NAME", "TOOK"] and len(rows) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--state", "Runing"], "did you mean Running?"),
        (["--sort", "nme"], "--sort 'nme' is no column; the columns are id, state"),
        (["--fields", "nme", "--json"], "--fields 'nme' is no field of --json; the fields are id, name"),
        (["--since", "yesterday"], "--since 'yesterday' is not a time; write it as 2h"),
        (["--watch", "--json"], "--watch shows a list to people"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_understood_is_named_with_what_can(busy: CommandLine, options: list[str], message: str) -> None:
    assert message in busy("ps", *options, code=2).stderr


def test_watch_draws_a_screen_that_fits_until_ctrl_c(busy: CommandLine) -> None:
    with on_terminal(busy, "ps", "--watch", "--interval", "200ms", width=80, height=24) as terminal:
        terminal.read_until(lambda raw: raw.count("\x1b[J") >= 2)
        drawn = terminal.raw.split("\x1b[J")[1]
        lines = drawn.replace("\r\n", "\n").split("\n")
        assert len(lines) == 24
        assert "Ctrl-C ends it" in lines[0] and "rows that do not fit" in lines[-1]
        assert sum("Running" in line for line in lines) == 21
        assert terminal.interrupt() == 130
        assert terminal.raw.endswith("\x1b[?25h\x1b[?1049l"), "the screen is as it was"


def test_json_of_a_run_keeps_the_fields_that_scripts_know(busy: CommandLine) -> None:
    (run,) = json.loads(busy("ps", "--json", "--limit", "1").stdout)
    assert list(run) == [
        *("id", "name", "flow", "state", "group", "message", "stuck", "late", "labels", "agent", "pid", "reason"),
        *("parameters", "scheduled_start_time", "start_time", "end_time", "memory_bytes", "peak_memory_bytes"),
        *("memory_limit_bytes", "cpu_time_s", "cpu_share", "processes"),
    ]


def test_the_page_of_the_server_has_the_same_order(server: ServerProcess, busy: CommandLine) -> None:
    page = server.get("/runs").text
    states = re.findall(r'<td class="fit"><span class="st \w+">.*?<span class="w">([^<]+)</span>', page)
    assert states[:RUNNING] == ["Running"] * RUNNING
    assert states[RUNNING : RUNNING + 2] == ["Late", "Failed \N{MULTIPLICATION SIGN}3"]
    assert states[RUNNING + 2 :] == ["Scheduled"] * 10 + ["Success"] * 20
    scheduled = sum(run["group"] == "next" for run in busy.json("ps", "--limit", "10000"))
    assert re.findall(r"([\d,]+) more", page) == [f"{scheduled - 10:,}", "180"]
