"""`flowherd register` against a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowherd.backends.graphql.transport import GraphQLTransport
from tests.acceptance.client_commands.helpers import HOST, register
from tests.support.commands import CommandLine
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]


def test_a_flow_gets_this_hosts_label_and_a_version(command: CommandLine, transport: GraphQLTransport) -> None:
    first, second = register(command, "hello"), register(command, "hello", "-l", "gpu")
    assert (first["version"], second["version"]) == (1, 2)
    assert first["labels"] == [HOST]
    assert second["labels"] == sorted([HOST, "gpu"])
    assert register(command, "free", "--any-host")["labels"] == []
    flow = transport.execute('query { flow(where: {name: {_eq: "free"}}) { run_config } }')["flow"][0]
    assert flow["run_config"]["labels"] == []


def test_every_option_reaches_the_server(command: CommandLine, transport: GraphQLTransport, tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text("def main(n=0): pass\n")
    options = [
        "--python",
        f"{tmp_path}/flows.py:main",
        "-e",
        "A=b=c",
        "--env-file",
        f"{tmp_path}/env",
        "--secret",
        f"S=file:{tmp_path}/secret",
        "--secret",
        "T=env:TOKEN_OF_THE_HOST",
        "--working-dir",
        str(tmp_path),
        "--preload",
        "json",
    ]
    limits = ["--memory", "200M", "--processes", "5", "--timeout", "10m", "--open-files", "64", "--cpu-time", "90s"]
    weights = ["--cpu", "1.5", "--nice", "10", "--io", "idle", "--oom-score-adj", "500"]
    others = [
        "--grace",
        "3s",
        "--user",
        "nobody",
        "-p",
        "n=0",
        "--project",
        "mine",
        "--interpreter",
        "sh",
        "--log-level",
        "debug",
    ]
    others += [
        "--isolation",
        "sealed",
        "--network",
        "none",
        "--if-missing",
        "refuse",
        "--write",
        "out",
        "--hide",
        "~/k",
    ]
    command("register", "full", "--no-check", *options, *limits, *weights, *others)
    fields = "name storage run_config parameters project { name }"
    row = transport.execute(f'query {{ flow(where: {{name: {{_eq: "full"}}}}) {{ {fields} }} }}')["flow"][0]
    assert row["project"] == {"name": "mine"}
    assert row["storage"]["type"] == "Python"
    assert row["storage"]["ref"] == f"{tmp_path}/flows.py:main"
    assert row["parameters"][0]["default"] == 0
    config = row["run_config"]
    assert config["env"] == {"A": "b=c"}
    assert config["env_files"] == [f"{tmp_path}/env"]
    assert config["secrets"] == {"S": f"file:{tmp_path}/secret", "T": "env:TOKEN_OF_THE_HOST"}
    assert config["working_dir"] == str(tmp_path)
    assert config["preload"] == ["json"]
    assert config["grace_s"] == 3.0
    assert config["user"] == "nobody"
    assert config["isolation"] == {
        "level": "sealed",
        "network": "none",
        "if_missing": "refuse",
        "write": [str(Path.cwd() / "out")],
        "hide": ["~/k"],
    }
    assert config["log_level"] == "DEBUG"
    assert Path(config["interpreter"]).is_absolute()
    assert config["limits"] == {
        "memory_bytes": 200 << 20,
        "processes": 5,
        "run_time_s": 600.0,
        "open_files": 64,
        "cpu_time_s": 90,
    }
    assert config["weights"] == {"cpu": 1.5, "nice": 10, "io": "idle", "oom_score_adj": 500}


def test_a_schedule_creates_runs(command: CommandLine) -> None:
    register(command, "often", "--interval", "1h", "-p", "n=0")
    runs = wait_until(lambda: command.json("ps"), what="the runs of the schedule")
    assert {run["flow"] for run in runs} == {"often"}
    assert all(run["state"] == "Scheduled" for run in runs)
    assert runs[0]["parameters"] == {"n": 0}


def test_a_cron_expression_is_in_the_time_zone_that_is_printed(command: CommandLine) -> None:
    arguments = ["--cron", "30 2 * * *", "--timezone", "Asia/Tokyo", "--command", "--", "true"]
    printed = command("register", "tokyo", *arguments).stdout
    assert "  runs    daily at 02:30 (30 2 * * *), Asia/Tokyo\n" in printed
    assert printed.count(" 02:30") == 4
    starts = {run["scheduled_start_time"][11:16] for run in command.json("ps") if run["flow"] == "tokyo"}
    assert starts == {"17:30"}
    nameless = CommandLine(command.home, env={"TZ": "JST-9"})
    done = nameless("register", "tokyo", "--cron", "30 2 * * *", "--command", "--", "true")
    assert "no time zone with a name" in done.stderr and "30 2 * * *), UTC\n" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--python REF"),
        (["--command"], "--command"),
        (["--python", "a:b", "--command", "--", "x"], "exclude"),
        (["--cron", "x", "--interval", "5m", "--command", "--", "true"], "exclude"),
        (["--cron", "never", "--command", "--", "true"], "--cron"),
        (["--interval", "0.1s", "--command", "--", "true"], "--interval"),
        (["--memory", "much", "--command", "--", "true"], "--memory"),
        (["--log-level", "DEBUG", "--command", "--", "true"], "--log-level"),
        (["--log-level", "LOUD", "--python", "a:b"], "--log-level"),
        (["--isolation", "much", "--command", "--", "true"], "level of isolation is one of none, private, sealed"),
        (
            ["--isolation", "none", "--network", "none", "--command", "--", "true"],
            "network none needs the level private",
        ),
        (["--isolation", "none", "--hide", "/srv", "--command", "--", "true"], "hidden paths need the level private"),
        (["--write", "", "--command", "--", "true"], "--write needs a path"),
        (["--hide", "", "--command", "--", "true"], "--hide needs a path"),
        (["-e", "novalue", "--command", "--", "true"], "-e"),
    ],
)
def test_a_wrong_command_line_is_refused_before_a_server_is_asked(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    done = CommandLine(tmp_path / "home")("register", "x", *arguments, code=2)
    assert done.stderr.startswith("error: ")
    assert words in done.stderr


def test_paths_of_isolation_that_count_for_nothing_are_named(command: CommandLine, tmp_path: Path) -> None:
    missing = ["--isolation", "sealed", "--write", str(tmp_path / "out"), "--hide", str(tmp_path / "keys")]
    done = command("register", "absent", *missing, "--command", "--", "true")
    assert f"warning: there is no {tmp_path}/out on this host" in done.stderr
    assert f"warning: there is no {tmp_path}/keys on this host" in done.stderr
    done = command("register", "absent", "--isolation", "private", "--write", "/tmp", "--command", "--", "true")
    assert "warning: a path to write counts only for sealed runs" in done.stderr
    (tmp_path / "out").mkdir()
    done = command("register", "absent", *missing[:4], "--command", "--", "true")
    assert done.stderr == ""


def test_a_flow_needs_a_name(tmp_path: Path) -> None:
    done = CommandLine(tmp_path / "home")("register", " ", "--command", "--", "true", code=2)
    assert done.stderr == "error: the name of a flow must not be empty\n"
