"""Copies of what `flowherd register` has sent, in flows/ of the home: with them a flow runs here without a server."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError
from flowherd.errors import ConfigurationError
from flowherd.private_directory import make_private_directory, replace_private_file

_DIRECTORY = "flows"


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A flow as it was, or is to be, registered."""

    name: str
    storage: Mapping[str, Any]
    run_config: Mapping[str, Any] | None = None
    #: Default values of parameters, by name.
    defaults: Mapping[str, Any] = field(default_factory=dict)


def keep_definition(home: Path, project: str, document: Mapping[str, Any]) -> None:
    """Keep a copy of a flow's document, in the place of an earlier one; none if it cannot be written."""
    path = _path(home, project, document["name"])
    kept = {name: document[name] for name in ("name", "storage", "run_config")}
    kept["defaults"] = {one["name"]: one["default"] for one in document["parameters"]}
    with contextlib.suppress(OSError, ConfigurationError):
        make_private_directory(path.parent, "directory of registered flows")
        replace_private_file(path, json.dumps(kept))


def forget_definition(home: Path, project: str, name: str) -> None:
    """Remove the copy of a flow, if there is one."""
    with contextlib.suppress(OSError):
        _path(home, project, name).unlink()


def kept_definition(home: Path, name: str, project: str | None) -> Definition | None:
    """Return the copy of a flow; None if none was kept. Raises CommandError if several projects have one."""
    projects = "*" if project is None else _name(project)
    found = [path for path in (home / _DIRECTORY).glob(f"{projects}/{_name(name)}.json") if path.is_file()]
    if len(found) > 1:
        raise CommandError(f"{name!r} was registered in several projects; choose one with --project", exit_codes.USAGE)
    try:
        return Definition(**json.loads(found[0].read_bytes())) if found else None
    except (OSError, ValueError, TypeError):  # damaged: as if it had not been kept
        return None


def _path(home: Path, project: str, name: str) -> Path:
    return home / _DIRECTORY / _name(project) / f"{_name(name)}.json"


def _name(text: str) -> str:
    """Return a name as it can be that of a file; none of a pattern's characters are left in it."""
    return quote(text, safe="").replace(".", "%2E")
