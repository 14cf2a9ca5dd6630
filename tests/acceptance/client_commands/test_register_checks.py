"""`flowherd register` refuses what would fail on this host, and says what it could not check."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from flowherd.cli.here.check_flow import check_flow
from flowherd.cli.here.kept_definitions import Definition
from flowherd.config import LoadedSettings, load_settings
from flowherd.parameter_types import signature_entry
from tests.support.commands import CommandLine

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]

SOURCE = """
import enum, functools, os, sys
from typing import Optional
def changed(f):
    @functools.wraps(f)
    def inner(*args, **kwargs): return f(*args, **kwargs)
    return inner
def plain(a, b=1): pass
class Size(enum.Enum): S, L = "small", "large"
def typed(n: int, size: Size = Size.L, on: Optional[bool] = None, **more): pass
@changed
def wrapped(a): pass
value = 3
print("printed by the import")
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "checked.py").write_text(SOURCE)
    (tmp_path / "broken.py").write_text("import os\n\n\ndef f(): pass\n\n\nimport no_such_module\n")
    (tmp_path / "leaves.py").write_text("import os\ndef f(): pass\nos._exit(7)\n")
    (tmp_path / "exits.py").write_text("import sys\ndef f(): pass\nsys.exit('no')\n")
    (tmp_path / "waits.py").write_text("import time\ndef f(): pass\ntime.sleep(1000)\n")
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    return tmp_path


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> LoadedSettings:
    return load_settings({"home": str(tmp_path_factory.mktemp("home"))})


@pytest.mark.parametrize(
    ("what", "config", "defaults", "words"),
    [
        ("{place}/broken.py:f", {}, {}, "broken.py, line 7): ModuleNotFoundError: No module named 'no_such_mod"),
        ("{place}/leaves.py:f", {}, {}, "its import ended the interpreter (exit code 7)"),
        ("{place}/exits.py:f", {}, {}, "its import failed"),
        ("{place}/checked.py:value", {}, {}, "is not callable"),
        ("{place}/checked.py:plain", {}, {"c": 1}, "no parameter 'c'"),
        ("{place}/checked.py:plain", {}, {}, "-p a=..."),
        ("no_such_package.flows:main", {}, {}, "no module named no_such_package"),
        ("json:nothing", {}, {}, "json has no nothing"),
        ("{place}/checked.py:plain", {"user": "nobody-here"}, {}, "no user nobody-here"),
        ("{place}/checked.py:plain", {"working_dir": "/no/such"}, {}, "no directory /no/such"),
        ("{place}/checked.py:plain", {"interpreter": "/bin/true"}, {}, "its import ended the interpreter"),
        (["sh"], {"env": {"PATH": "/nowhere"}}, {}, "on the PATH /nowhere"),
        (["./none"], {"working_dir": "{place}"}, {}, "no file {place}/none"),
        (["./tool"], {"working_dir": "{place}"}, {}, "chmod +x"),
        (["{tool}"], {}, {"tool": "no-tool"}, "no program no-tool"),
    ],
)
def test_each_reason_for_which_its_runs_would_fail_is_found(
    settings: LoadedSettings,
    place: Path,
    what: str | list[str],
    config: dict[str, str],
    defaults: dict[str, object],
    words: str,
) -> None:
    def here(text: str) -> str:
        return text.replace("{place}", str(place))

    is_command = isinstance(what, list)
    storage = {"type": "Command", "argv": what} if is_command else {"type": "Python", "ref": here(str(what))}
    config = {name: here(value) if isinstance(value, str) else value for name, value in config.items()}
    definition = Definition(name="x", storage=storage, run_config=config, defaults=defaults)
    (problem,) = check_flow(definition, settings, is_scheduled="..." in words).problems
    assert here(words) in problem


def test_a_module_that_is_a_file_here_is_told_how_to_be_written(
    settings: LoadedSettings, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    definition = Definition(name="x", storage={"type": "Python", "ref": "checked:plain"}, run_config={}, defaults={})
    (problem,) = check_flow(definition, settings, is_scheduled=False).problems
    assert problem.endswith("no module named checked on its path; to run the file checked.py write checked.py:plain")


def test_what_would_fail_here_is_not_registered(command: CommandLine, place: Path) -> None:
    for arguments in (["--python", f"{place}/broken.py:f"], ["--command", "--", "no-such-program"]):
        done = command("register", "bad", *arguments, code=2)
        assert [line.startswith("error: ") for line in done.stderr.splitlines()] == [True, True]
        assert "--no-check" in done.stderr and done.stdout == ""


def test_what_is_right_is_registered_and_its_parameters_are_known(command: CommandLine, place: Path) -> None:
    command("register", "right", "--python", f"{place}/checked.py:plain", "-p", "b=2", "--interpreter", sys.executable)
    command("register", "decorated", "--python", f"{place}/checked.py:wrapped")
    command("register", "by-module", "--python", "json:dumps")
    command("register", "with-parameter", "--command", "--", "{tool}", "x")
    assert "did you mean 'obj'" not in command("run", "by-module", "-p", "indent=1").stderr
    assert "no parameter 'c'" in command("run", "right", "-p", "c=1", code=2).stderr


def test_types_of_an_imported_function_are_registered(settings: LoadedSettings, place: Path) -> None:
    storage = {"type": "Python", "ref": f"{place}/checked.py:typed"}
    found = check_flow(Definition(name="x", storage=storage, run_config={}), settings, is_scheduled=False)
    assert signature_entry(found.signature)["signature"] == [
        {"name": "n", "type": "integer", "required": True},
        {"name": "size", "type": "choice", "choices": ["small", "large"], "default": "large"},
        {"name": "on", "type": "boolean", "default": None},
    ]


def test_no_check_registers_it_anyway(command: CommandLine, place: Path) -> None:
    done = command("register", "later", "--no-check", "--python", f"{place}/not-yet.py:main")
    assert (done.stderr, "registered later" in done.stdout) == ("", True)
    command("register", "far", "--no-check", "--working-dir", "/no/such", "--command", "--", "no-such-program")


def test_for_other_hosts_nothing_is_imported_and_one_line_says_so(command: CommandLine, place: Path) -> None:
    for arguments, what in (
        (["--python", f"{place}/broken.py:f"], f"{place}/broken.py:f can be imported"),
        (["--python", "no_such_package:main"], "no_such_package:main can be imported"),
        (["--command", "--", "no-such-program"], "the program no-such-program is found"),
    ):
        (line,) = command("register", "other", "--any-host", *arguments).stderr.splitlines()
        assert line.startswith("not checked") and what in line


def test_an_import_that_takes_long_is_given_up_and_ended(settings: LoadedSettings, place: Path) -> None:
    definition = Definition(name="x", storage={"type": "Python", "ref": f"{place}/waits.py:f"}, run_config={})
    found = check_flow(definition, settings, is_scheduled=False, import_s=0.5)
    assert found.problems == [f"{place}/waits.py:f: its import took longer than 0.5 s"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root can become any user")
def test_of_another_users_flow_only_the_rest_is_checked(command: CommandLine, place: Path) -> None:
    done = command("register", "as-other", "--python", f"{place}/broken.py:f", "--user", "root")
    assert "only root can import it as user root" in done.stderr
