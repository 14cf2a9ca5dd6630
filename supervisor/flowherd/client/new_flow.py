"""The document of a flow that a program registers, from the arguments of `Client.register`."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from flowherd.client.flow_document import (
    HowToRun,
    command_storage,
    flow_document,
    is_file_reference,
    python_storage,
)
from flowherd.client.flow_schedule import ChosenSchedule, schedule_of
from flowherd.engines.run_config import LOG_LEVELS
from flowherd.errors import InvalidRequest
from flowherd.flow_rules import DEFAULT_RULES, RULES_KEY, read_rules
from flowherd.isolation.levels import read_request
from flowherd.parameter_names import complaints, parameter_names
from flowherd.weights import checked

_LIMITS = frozenset({"run_time_s", "memory_bytes", "processes", "open_files", "cpu_time_s"})


def storage_of(python: str | None, command: Sequence[str] | None) -> dict[str, Any]:
    """Return the storage of a flow that is Python code or a command. Raises InvalidRequest and NotFound."""
    if (python is None) == (command is None):
        raise InvalidRequest("give either python, a reference to code, or command, a program with its arguments")
    if python is not None:
        return python_storage(python, Path.cwd())
    if isinstance(command, str) or not command:
        raise InvalidRequest("command is a list: the program and its arguments, such as ['echo', 'hello']")
    return command_storage(command)


def how_to_run(storage: Mapping[str, Any], labels: Sequence[str], *, any_host: bool, **given: Any) -> HowToRun:
    """Return what the runs get: the fields of HowToRun that are not None, with defaults as `flowherd register` has.

    They have the name of this host as a label unless `any_host`, and begin in the present directory unless they import
    a module. Raises InvalidRequest for an unknown limit or level, and for weights and an isolation that are none.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    unknown = sorted(set(chosen.get("limits", ())) - _LIMITS)
    if unknown:
        raise InvalidRequest(f"there is no limit {unknown[0]!r}; limits are {', '.join(sorted(_LIMITS))}")
    try:
        chosen["weights"] = checked(chosen.get("weights", {}))
    except ValueError as error:
        raise InvalidRequest(f"weights: {error}") from error
    if chosen.get("log_level", "INFO") not in LOG_LEVELS:
        raise InvalidRequest(f"log_level {chosen['log_level']!r} is none of {', '.join(LOG_LEVELS)}")
    try:
        chosen["isolation"] = read_request(chosen.get("isolation")).as_json()
    except ValueError as error:
        raise InvalidRequest(str(error)) from error
    if "working_dir" in chosen:
        chosen["working_dir"] = str(Path(chosen["working_dir"]).expanduser().absolute())
    elif storage["type"] == "Command" or is_file_reference(storage):
        chosen["working_dir"] = str(Path.cwd())
    # The code is on this host, so only an agent on this host can run it; agents have their host's name as a label.
    return HowToRun(labels=[*labels, *([] if any_host else [socket.gethostname()])], **chosen)


def document_of(
    name: str,
    storage: Mapping[str, Any],
    how: HowToRun,
    parameters: Mapping[str, Any],
    schedule: ChosenSchedule | None,
    *,
    own_clocks: bool,
) -> dict[str, Any]:
    """Return the document. Raises InvalidRequest for a parameter that the function does not take."""
    unknown = complaints(parameters, parameter_names(storage, None))
    if unknown:
        raise InvalidRequest(f"{name} was not registered: {'; '.join(unknown)}")
    times = None if schedule is None else schedule.document(parameters, own_clocks=own_clocks)
    return flow_document(name, storage, how, parameters, times)


def rules_of(given: Mapping[str, Any] | None, address: str, *, follows: bool) -> dict[str, Any]:
    """Return what the rules of a new flow add to its document: nothing for a server that does not follow rules.

    Raises InvalidRequest for unknown rules, and for any that are given to such a server.
    """
    unknown = sorted(set(given or ()) - vars(DEFAULT_RULES).keys())
    if unknown:
        raise InvalidRequest(f"there is no rule {unknown[0]!r}; rules are {', '.join(vars(DEFAULT_RULES))}")
    try:
        rules = read_rules({"catch_up": DEFAULT_RULES.catch_up.value, **(given or {})})
    except ValueError as error:
        raise InvalidRequest(f"rules: {error}") from error
    if given and not follows:
        raise InvalidRequest(f"{address} does not follow rules of flows; only flowherd's own server does")
    return {RULES_KEY: rules.as_json()} if follows else {}


def schedule_from_now(
    cron: str | None, interval_s: float | None, zone: str | None, until: datetime | None
) -> ChosenSchedule | None:
    """Return the schedule as `schedule_of` does, which begins now. Raises InvalidRequest."""
    if until is not None and until.tzinfo is None:
        raise InvalidRequest(f"until={until.isoformat()} has no offset from UTC; use an aware datetime")
    return schedule_of(cron, interval_s, zone, until, datetime.now(timezone.utc))
