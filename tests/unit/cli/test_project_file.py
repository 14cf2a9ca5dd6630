"""Project files: the keys of a flow, what they mean at a server, and what is said about wrong ones."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from flowherd.cli.apply.declared_flow import KEYS
from flowherd.cli.apply.project_file import ProjectFile, read_project_file
from flowherd.cli.apply.show_changes import shown
from flowherd.cli.crontab.convert import Surroundings, convert
from flowherd.cli.crontab.crontab_lines import crontab_lines
from flowherd.cli.crontab.flows_toml import flows_toml
from flowherd.cli.failures import CommandError
from flowherd.errors import ConfigurationError
from flowherd.flow_description import description, differences
from flowherd.schedules.cron import read_cron

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)
HEAD = 'project = "shop"\n'


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "jobs.py").write_text("def main(n, level='low'): pass\n")
    return tmp_path


def read(directory: Path, text: str) -> ProjectFile:
    (directory / "flows.toml").write_text(text)
    return read_project_file(str(directory / "flows.toml"), NOW)


def flow(directory: Path, *lines: str) -> Mapping[str, Any]:
    found = read(directory, HEAD + "[flows.f]\n" + "\n".join(lines))
    assert found.problems == []
    return found.flows[0].document


def problem(directory: Path, *lines: str) -> str:
    (found,) = read(directory, HEAD + "[flows.f]\n" + "\n".join(lines)).problems
    return found.removeprefix(f"{directory}/flows.toml, ")


def test_every_key_reaches_the_document_of_the_flow(directory: Path) -> None:
    document = flow(
        directory,
        'python = "jobs.py:main"',
        "parameters = { n = 0 }",
        'labels = ["gpu"]',
        'env = { A = "b=c" }',
        'env_files = ["env"]',
        'secrets = { S = "file:secret", T = "env:TOKEN_OF_THE_HOST" }',
        'working_dir = "work"',
        'interpreter = "sh"',
        'preload = ["json"]',
        'memory = "200M"',
        "processes = 5",
        'timeout = "10m"',
        "open_files = 64",
        'cpu_time = "90s"',
        "cpu = 1.5",
        "nice = 10",
        'io = "idle"',
        "oom_score_adj = 500",
        "grace = 3",
        'user = "nobody"',
        'isolation = "sealed"',
        'network = "none"',
        'if_missing = "weaker"',
        'write = ["out", "/srv/out"]',
        'hide = ["~/.ssh"]',
        'log_level = "debug"',
        'cron = "30 2 * * *"',
        'timezone = "Europe/Berlin"',
        "until = 2031-01-31",
        'overlap = "queue"',
        "max_running = 3",
        'catch_up = "all"',
        "retries = 2",
        'retry_delay = "1m"',
        "retry_backoff = 2",
        'retry_on = ["failed", "exit:75"]',
        "never_stuck = true",
    )
    said = dict(description(document))
    assert said.pop("interpreter").endswith("/sh")
    assert said == {
        "python": f"{directory}/jobs.py:main",
        "names of its parameters": ["n", "level"],
        "types of its parameters": [
            {"name": "n", "type": "any", "required": True},
            {"name": "level", "type": "text", "default": "low"},
        ],
        "labels": sorted([socket.gethostname(), "gpu"]),
        "working_dir": f"{directory}/work",
        "preload": ["json"],
        "env_files": [f"{directory}/env"],
        "user": "nobody",
        "isolation": "sealed",
        "network": "none",
        "if_missing": "weaker",
        "write": [f"{directory}/out", "/srv/out"],
        "hide": ["~/.ssh"],
        "log_level": "DEBUG",
        "env.A": "b=c",
        "secrets.S": f"file:{directory}/secret",
        "secrets.T": "env:TOKEN_OF_THE_HOST",
        "memory": "200M",
        "processes": 5,
        "timeout": "10m",
        "open_files": 64,
        "cpu_time": "90s",
        "cpu": 1.5,
        "nice": 10,
        "io": "idle",
        "oom_score_adj": 500,
        "grace": "3s",
        "cron": "30 2 * * *",
        "timezone": "Europe/Berlin",
        "until": "2031-01-31T22:59:59.999999+00:00",
        "overlap": "queue",
        "catch_up": "all",
        "max_running": 3,
        "retries": 2,
        "retry_delay": "1m",
        "retry_backoff": 2.0,
        "retry_on": ["failed", "exit:75"],
        "never_stuck": True,
        "parameters.n": 0,
    }


def test_a_flow_has_what_register_gives_it_by_default(directory: Path) -> None:
    document = flow(directory, 'command = ["sh", "-c", ""]', 'interval = "15m"', "any_host = true")
    assert dict(description(document)) == {
        "command": ["sh", "-c", ""],
        "working_dir": str(directory),
        "interval": "15m",
        "overlap": "allow",
        "catch_up": "last",
    }


def test_a_file_can_still_be_applied_when_one_of_its_schedules_has_ended(directory: Path) -> None:
    for schedule in ('cron = "@daily"', 'interval = "1h"'):
        said = description(flow(directory, 'command = ["true"]', schedule, 'timezone = "UTC"', "until = 2029-12-31"))
        assert said["until"].startswith("2029-12-31T23:59:59")


def test_a_description_does_not_depend_on_the_moment_or_the_release(directory: Path) -> None:
    (directory / "flows.toml").write_text(f'{HEAD}[flows.f]\ncommand = ["true"]\ninterval = 60\n'.replace("60", '"60"'))
    early, late = (read_project_file(str(directory / "flows.toml"), NOW.replace(year=year)) for year in (2030, 2031))
    assert early.flows[0].document != late.flows[0].document
    assert description(early.flows[0].document) == description(late.flows[0].document)
    other = {**early.flows[0].document, "__version__": "9", "storage": {"type": "S3", "__version__": "9"}}
    assert description(other)["storage"] == {"type": "S3"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('cron = "30 2 * * *"', "flows.f.cron: needs `timezone = "),
        ('interval = "1h"\nuntil = 2031-01-31', "flows.f.until: needs `timezone = "),
        ('until = "2031-01-31T00:00Z"', "about a schedule"),
        ('cron = "0 0 30 2 *"\ntimezone = "UTC"', "never fires"),
        ('cron = "@daily"\ntimezone = "Mars/Base"', "flows.f.timezone: "),
        ('interval = "soon"', "flows.f.interval: "),
        ('timezon = "UTC"', "line 4: flows.f.timezon: there is no such key; did you mean timezone?"),
        ('python = "jobs.py:main"', "either `python`, a reference to code, or `command`"),
        ('memory = "much"', "'much' is not a size"),
        ("timeout = true", "flows.f.timeout: "),
        ("labels = [1]", "list of texts"),
        ("env = { A = 1 }", "table of texts"),
        ("parameters = { day = 2030-01-31 }", "quote a date"),
        ("processes = 0", "1 or more"),
        ("nice = 20", "line 4: flows.f.nice: nice is a whole number from -20 to 19"),
        ('secrets = { S = "hunter2" }', "flows.f.secrets: S must say where"),
        ('log_level = "INFO"', "not for a command"),
        ('overlap = "often"', "flows.f.overlap: must be one of allow, skip, queue, replace"),
        ("retries = 1.5", "flows.f.retries: must be a whole number"),
        ('retry_delay = "1m"', "says nothing without `retries`"),
        ('retries = 1\nretry_on = ["rain"]', "flows.f.retry_on: 'rain' is no cause"),
        ('isolation = "seald"', "flows.f.isolation: the level of isolation is one of none, private, sealed"),
        ('network = "lan"', "flows.f.network: the network of isolation is one of host, none"),
        (
            'isolation = "none"\nnetwork = "none"',
            "flows.f.isolation: network none needs the level private or sealed, not none",
        ),
        ('interpreter = "/no/python"', "there is no program /no/python"),
    ],
)
def test_what_cannot_be_followed_is_named_with_its_line_and_what_to_write(
    directory: Path, line: str, expected: str
) -> None:
    found = problem(directory, 'command = ["true"]', *line.split("\n"))
    assert expected in found
    assert found.startswith("line ")
    assert "hunter2" not in found and "--" not in found


def test_an_imported_crontab_is_a_project_file_that_says_the_same(directory: Path) -> None:
    crontab = """
GREETING="it's \\ \"me\""
*/5 * * * * /usr/local/bin/check.sh > /dev/null 2>&1
@daily echo 100\\% 'done'
@reboot /bin/startup
0 9 * * mon-fri mail%Hello%World
15 14 1 * * FOO=bar prog ü € \x01 \x7f
0 0 30 2 * never
"""
    entries = convert(crontab_lines(crontab, with_users=False), Surroundings(owner=None, agent_user="me", zone="UTC"))
    found = read(directory, flows_toml(entries, "crontab", "crontab", "me"))
    assert (found.project, found.problems) == ("crontab", [])
    said = {flow.name: description(flow.document) for flow in found.flows}
    flows = [entry for entry in entries if entry.name is not None]
    assert [*said] == [entry.name for entry in flows] == ["check", "echo", "startup", "mail", "prog"]
    for entry in flows:
        env = {f"env.{name}": value for name, value in entry.keys["env"].items()}
        keys = {key: value for key, value in entry.keys.items() if key not in ("env", "working_dir")}
        if "cron" in keys:
            keys["cron"] = read_cron(keys["cron"]).text
        known = said[entry.name or ""]
        assert {key: known.get(key) for key in (*env, *keys)} == {**env, **keys}


def test_python_references_are_checked(directory: Path) -> None:
    assert "defines no function other" in problem(directory, 'python = "jobs.py:other"')
    wrong = problem(directory, 'python = "jobs.py:main"', "parameters = { leve = 1 }")
    assert wrong.startswith("line 4: flows.f.parameters: ") and "did you mean 'level'?" in wrong


def test_all_problems_are_found_at_once(directory: Path) -> None:
    found = read(directory, 'projet = "x"\n[flows."a.b"]\ncommand = "true"\nlabel = []\n[flows.c]\nd = 1\n')
    places = [problem.removeprefix(f"{directory}/flows.toml").rpartition(":")[0] for problem in found.problems]
    assert found.problems[0].endswith(
        "line 1: projet: there is no such key; did you mean project?; flows are below [flows.NAME], "
        "and rules of notifications in [[notify]]"
    )
    assert len(places) == 5
    assert [place for place in places if "line 3: flows.a.b.command" in place] != []
    assert found.flows == []


def test_a_file_that_is_missing_or_no_toml_is_an_error(directory: Path) -> None:
    with pytest.raises(CommandError, match=r"there is no file .*declare-flows"):
        read_project_file(str(directory / "none.toml"), NOW)
    with pytest.raises(ConfigurationError, match="is not TOML"):
        read(directory, "[flows")


def test_the_parameters_of_a_function_only_count_where_they_are_known() -> None:
    def document(*names: str, ref: str = "m:f") -> dict[str, Any]:
        return {"storage": {"type": "Python", "ref": ref, **({"parameters": [*names]} if names else {})}}

    assert differences(document("a"), document()) == differences(document(), document("a")) == []
    (found,) = differences(document("a"), document("a", "b"))
    assert (found["before"], found["after"]) == (["a"], ["a", "b"])
    assert [each["key"] for each in differences(document("a"), document(ref="m:g"))] == ["python"]


def test_values_that_are_named_like_secrets_are_not_shown() -> None:
    assert shown("env.DB_PASSWORD", "hunter22") == shown("parameters.api_key", "k") == "***"
    assert shown("env.URL", "postgres://me:hunter22@db/x") == "***"
    assert shown("env.LEVEL", "1") == "1"
    assert shown("env.TOKEN", None) is None


def test_the_reference_has_a_row_for_each_key() -> None:
    page = Path(__file__).parents[3] / "docs" / "reference" / "flows-toml.md"
    rows = [line.split("|")[1] for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    named = {name.strip().strip("`") for row in rows for name in row.split(",")}
    assert set(KEYS) <= named
