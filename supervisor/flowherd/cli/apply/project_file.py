"""Reads a project file, flows.toml, and checks it. `flowherd import crontab` writes such files.

project = "shop"

[flows.nightly]
command = ["./backup.sh", "/srv/data"]
cron = "30 2 * * *"
timezone = "Europe/Berlin"
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from flowherd.cli import exit_codes
from flowherd.cli.apply.declared_flow import DeclaredFlow, WrongKey, declared_flow, wrong_keys
from flowherd.cli.failures import CommandError
from flowherd.config.toml_files import place_of, read_toml, suggestion
from flowherd.notify.rules import read_rule

#: Where the command line finds its standard input as a file.
STANDARD_INPUT = "/dev/stdin"
_TOP = ("project", "flows", "notify")


@dataclass(frozen=True, kw_only=True)
class ProjectFile:
    """The flows that a file declares."""

    project: str
    flows: Sequence[DeclaredFlow]
    #: Rules of notifications about these flows, as they are written.
    rules: Sequence[Mapping[str, Any]]
    #: What is wrong, a sentence each, with the line; nothing may be applied if there is anything.
    problems: Sequence[str]
    path: Path

    def place(self, flow: str) -> str:
        """Return the file and the line of a flow, for messages."""
        return place_of(self.path, f"flows.{flow}")


def read_project_file(name: str, now: datetime, *, check: bool = True) -> ProjectFile:
    """Read a project file; "-" is standard input. Relative paths in it begin in its directory.

    With `check` the files of Python code must be there, and have the functions.
    Raises CommandError if there is none, ConfigurationError if it cannot be read or is not TOML.
    """
    path = Path(STANDARD_INPUT if name == "-" else name)
    data = read_toml(path)
    if data is None:
        raise CommandError(f"there is no file {path}; docs/how-to/declare-flows.md shows one", exit_codes.NOT_FOUND)
    directory = Path.cwd() if name == "-" else path.absolute().parent
    problems = _Problems(path)
    for key in data.keys() - set(_TOP):
        hint = "flows are below [flows.NAME], and rules of notifications in [[notify]]"
        problems.add(key, f"there is no such key{suggestion(key, [*_TOP])}; {hint}")
    project = data.get("project")
    if not isinstance(project, str) or not project.strip():
        problems.add("project", 'must be the name of the project, as in project = "shop"')
    tables = data.get("flows", {})
    if not isinstance(tables, Mapping):
        problems.add("flows", "must be tables, [flows.NAME]")
        tables = {}
    read = (_flow(flow_name, keys, directory, now, problems, check) for flow_name, keys in tables.items())
    flows = [flow for flow in read if flow is not None]
    rules = list(_rules(data.get("notify", []), problems))
    return ProjectFile(project=str(project), flows=flows, rules=rules, problems=problems.found, path=path)


def _rules(given: Any, problems: _Problems) -> Iterator[Mapping[str, Any]]:
    for rule in given if isinstance(given, list) else [given]:
        try:
            yield read_rule(rule).as_json()
        except ValueError as error:
            problems.add("notify", str(error))


class _Problems:
    """What is wrong with a file, in the order in which it was found."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.found: list[str] = []

    def add(self, key: str, why: str) -> None:
        self.found.append(f"{place_of(self._path, key)}: {key}: {why}")


def _flow(
    name: str, keys: Any, directory: Path, now: datetime, problems: _Problems, check: bool
) -> DeclaredFlow | None:
    place = f"flows.{name}"
    if not name.strip() or not isinstance(keys, Mapping):
        problems.add(place, "must be a table with a name, [flows.NAME]")
        return None
    wrong = wrong_keys(keys)
    if not wrong:
        try:
            return declared_flow(name, keys, directory, now, check=check)
        except WrongKey as error:
            wrong = [error]
    for each in wrong:
        problems.add(f"{place}.{each.key}" if each.key else place, str(each))
    return None
