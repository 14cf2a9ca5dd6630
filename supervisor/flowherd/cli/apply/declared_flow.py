"""One flow of a project file: its keys, and the document as which it is registered."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowherd import weights
from flowherd.cli.apply import values
from flowherd.cli.failures import CommandError
from flowherd.cli.flows.schedule_options import chosen_schedule
from flowherd.client.flow_document import (
    HowToRun,
    command_storage,
    flow_document,
    is_file_reference,
    python_storage,
)
from flowherd.config.toml_files import suggestion
from flowherd.engines.run_config import LOG_LEVELS
from flowherd.errors import FlowherdError
from flowherd.flow_rules import RULES_KEY, read_rules
from flowherd.isolation.levels import read_request
from flowherd.parameter_names import complaints, parameter_names

if TYPE_CHECKING:
    from flowherd.client.flow_schedule import ChosenSchedule

#: Reader of each key.
KEYS: Mapping[str, Callable[[Any], Any]] = {
    "command": values.an_argv,
    "python": values.a_text,
    "parameters": values.values_by_name,
    "labels": values.texts,
    "any_host": values.a_switch,
    "env": values.texts_by_name,
    "env_files": values.texts,
    "secrets": values.texts_by_name,
    "working_dir": values.a_text,
    "interpreter": values.a_text,
    "preload": values.texts,
    "memory": values.size,
    "processes": values.a_count,
    "timeout": values.seconds,
    "open_files": values.a_count,
    "cpu_time": values.whole_seconds,
    **weights.CHECKS,
    "grace": values.seconds,
    "user": values.a_text,
    "isolation": values.a_text,
    "network": values.a_text,
    "if_missing": values.a_text,
    "write": values.texts,
    "hide": values.texts,
    "log_level": values.a_text,
    "cron": values.a_text,
    "interval": values.a_text,
    "timezone": values.a_text,
    "until": values.a_time,
    "overlap": values.a_text,
    "max_running": values.a_count,
    "catch_up": values.a_text,
    "retries": values.a_number,
    "retry_delay": values.seconds,
    "retry_backoff": values.a_number,
    "retry_on": values.texts,
    "never_stuck": values.a_switch,
}
_LIMITS = {
    "memory": "memory_bytes",
    "processes": "processes",
    "timeout": "run_time_s",
    "open_files": "open_files",
    "cpu_time": "cpu_time_s",
}
_RULES = {
    "overlap": "overlap",
    "max_running": "max_running",
    "catch_up": "catch_up",
    "retries": "retries",
    "retry_delay": "retry_delay_s",
    "retry_backoff": "retry_backoff",
    "retry_on": "retry_on",
    "never_stuck": "never_stuck",
}
_ISOLATION = {
    "isolation": "level",
    "network": "network",
    "if_missing": "if_missing",
    "write": "write",
    "hide": "hide",
}
_OPTION = re.compile(r"--(?=[a-z])")
_OFFSET = re.compile(r"[T ].*(Z|[+-]\d\d:?\d\d)$")


class WrongKey(FlowherdError):
    """A key of a flow cannot be used; `key` is empty if the flow as a whole is wrong."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(why)
        self.key = key


@dataclass(frozen=True, kw_only=True)
class DeclaredFlow:
    """A flow as the file declares it."""

    name: str
    #: What is registered; a check may add to it what it has found out.
    document: dict[str, Any]
    schedule: ChosenSchedule | None


def wrong_keys(keys: Mapping[str, Any]) -> list[WrongKey]:
    """Return what is wrong with the keys one by one: unknown ones, and values of another kind."""
    found = []
    for key, value in keys.items():
        if key not in KEYS:
            found.append(WrongKey(key, f"there is no such key{suggestion(key, [*KEYS])}"))
            continue
        try:
            KEYS[key](value)
        except ValueError as error:
            found.append(WrongKey(key, str(error)))
    return found


def declared_flow(name: str, keys: Mapping[str, Any], directory: Path, now: datetime, *, check: bool) -> DeclaredFlow:
    """Return the flow with these keys, which `wrong_keys` has passed. Relative paths begin in `directory`.

    With `check` a file of Python code must be there, and have the function. Raises WrongKey.
    """
    given = {key: KEYS[key](value) for key, value in keys.items()}
    storage = _storage(given, directory, check)
    schedule = _schedule(given, now)
    parameters: dict[str, Any] = given.get("parameters", {})
    for complaint in complaints(parameters, parameter_names(storage, None)):
        raise WrongKey("parameters", complaint)
    how = _how(given, storage, directory)
    times = None if schedule is None else schedule.document(parameters, own_clocks=True)
    document = {**flow_document(name, storage, how, parameters, times), RULES_KEY: _rules(given)}
    return DeclaredFlow(name=name, document=document, schedule=schedule)


def _storage(given: Mapping[str, Any], directory: Path, check: bool) -> dict[str, Any]:
    if ("python" in given) == ("command" in given):
        raise WrongKey("", "a flow has either `python`, a reference to code, or `command`, a program with arguments")
    if "command" in given:
        return command_storage(given["command"])
    try:
        return python_storage(given["python"], directory, check=check)
    except FlowherdError as error:
        raise WrongKey("python", str(error)) from error


def _schedule(given: Mapping[str, Any], now: datetime) -> ChosenSchedule | None:
    cron, interval, zone, until = (given.get(key) for key in ("cron", "interval", "timezone", "until"))
    if zone is None and (cron is not None or (until is not None and not _OFFSET.search(until))):
        raise WrongKey(
            "cron" if cron is not None else "until",
            'needs `timezone = "Europe/Berlin"`, or "UTC", beside it: the file means the same on every host',
        )
    try:
        # What is left without a time zone is an interval, which goes by elapsed time.
        has_one = cron is not None or interval is not None
        return chosen_schedule(cron, interval, zone or ("UTC" if has_one else None), until, now, may_be_over=True)
    except CommandError as error:
        said = _without_dashes(error)
        key = next((key for key in ("timezone", "until", "interval", "cron") if said.startswith(key)), "cron")
        raise WrongKey(key if key in given else "", said) from error


def _how(given: Mapping[str, Any], storage: Mapping[str, Any], directory: Path) -> HowToRun:
    working_dir = given.get("working_dir")
    if working_dir is None and (storage["type"] == "Command" or is_file_reference(storage)):
        working_dir = "."
    # The code is on this host, so only an agent on this host can run it; agents have their host's name as a label.
    host = [] if given.get("any_host") else [socket.gethostname()]
    return HowToRun(
        labels=[*given.get("labels", ()), *host],
        env=given.get("env", {}),
        env_files=[_host_path(path, directory) for path in given.get("env_files", ())],
        secrets={name: _secret(name, source, directory) for name, source in given.get("secrets", {}).items()},
        working_dir=None if working_dir is None else _absolute(working_dir, directory),
        interpreter=_interpreter(given.get("interpreter"), directory),
        preload=given.get("preload", ()),
        limits={_LIMITS[key]: value for key, value in given.items() if key in _LIMITS},
        weights={key: value for key, value in given.items() if key in weights.CHECKS},
        grace_s=given.get("grace"),
        user=given.get("user"),
        isolation=_isolation(given, directory),
        log_level=_log_level(given, storage),
    )


def _isolation(given: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    asked = {_ISOLATION[key]: value for key, value in given.items() if key in _ISOLATION}
    for name in ("write", "hide"):
        asked[name] = [_host_path(path, directory) for path in asked.get(name, ())]
    try:
        return read_request({name: value for name, value in asked.items() if value}).as_json()
    except ValueError as error:
        key = next((key for key, name in _ISOLATION.items() if f"the {name} " in str(error)), "isolation")
        raise WrongKey(key if key in given else "", str(error)) from error


def _secret(name: str, source: str, directory: Path) -> str:
    kind, _, place = source.partition(":")
    if not place or kind not in ("file", "env"):
        # Not shown: it may be a secret itself.
        raise WrongKey("secrets", f'{name} must say where the secret is: "file:PATH" or "env:VARIABLE"')
    return f"file:{_host_path(place, directory)}" if kind == "file" else source


def _interpreter(given: str | None, directory: Path) -> str | None:
    if given is None:
        return None
    found = shutil.which(_absolute(given, directory) if "/" in given else given)
    if found is None:
        raise WrongKey("interpreter", f"there is no program {given}")
    return str(Path(found).absolute())


def _log_level(given: Mapping[str, Any], storage: Mapping[str, Any]) -> str | None:
    level: str | None = given.get("log_level")
    if level is None:
        return None
    if storage["type"] == "Command":
        raise WrongKey("log_level", "is for Python code, not for a command")
    if level.upper() not in LOG_LEVELS:
        raise WrongKey("log_level", f"{level!r} is none of {', '.join(LOG_LEVELS)}")
    return level.upper()


def _rules(given: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {_RULES[key]: value for key, value in given.items() if key in _RULES}
    lonely = next((key for key in given if key.startswith("retry_")), None)
    if lonely is not None and not given.get("retries"):
        raise WrongKey(lonely, "says nothing without `retries`, a number above 0")
    try:
        return read_rules({"catch_up": "last", **chosen}).as_json()
    except ValueError as error:
        said = str(error)
        key = next((key for key, rule in _RULES.items() if said.startswith(rule)), "")
        raise WrongKey(key, said.removeprefix(_RULES.get(key, "")).lstrip(": ")) from error


def _absolute(path: str, directory: Path) -> str:
    """Return a path without `.` and `..`, which would make a difference where there is none."""
    import os.path

    return os.path.normpath(directory / Path(path).expanduser())


def _host_path(path: str, directory: Path) -> str:
    """Return an absolute path; `~` stays for the user that runs the agent."""
    return path if path.startswith("~") else _absolute(path, directory)


def _without_dashes(error: FlowherdError) -> str:
    """Return the message of an error about an option as one about a key."""
    return _OPTION.sub("", str(error))
