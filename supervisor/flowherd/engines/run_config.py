"""Reads and checks the values of a run config, which users write freely."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from flowherd.errors import UnsupportedStorage
from flowherd.values import FlowRun
from flowherd.weights import checked
from flowherd_runner.contract.spec import RunLimits, is_positive_number
from flowherd_runner.contract.weights import Weights

#: Levels of Python's logging, by their names there.
LOG_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}

_TYPES = frozenset({"LocalRun", "UniversalRun"})


def run_config_of(flow_run: FlowRun) -> Mapping[str, Any]:
    """Return the run config of the run, or else of its flow; empty when there is none.

    Raises UnsupportedStorage when it is meant for another platform.
    """
    config: Mapping[str, Any] = flow_run.run_config or flow_run.flow.run_config or {}
    if str(config.get("type", "LocalRun")) not in _TYPES:
        raise UnsupportedStorage(
            f"Unsupported run config type: {config.get('type')!r}; this agent runs LocalRun and UniversalRun"
        )
    return config


def strings_by_name(value: object) -> dict[str, str]:
    """Return a mapping with texts for keys and values; null values are left out."""
    if not isinstance(value, Mapping):
        return {}
    return {str(name): str(item) for name, item in value.items() if item is not None}


def strings(value: object) -> list[str]:
    """Return the items of a list as texts; nothing for any other value."""
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else []


def expanded_path(value: object) -> str | None:
    """Return a path with `~` expanded; None when there is none."""
    return os.path.expanduser(value) if isinstance(value, str) and value else None  # noqa: PTH111 - "python3" is no path


def argument(key: str, value: object) -> str:
    """Return a text that can be an argument of a program (execve(2)). Raises UnsupportedStorage."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise UnsupportedStorage(f"{key} needs a text, not {value!r:.80}")
    return value


def modules(value: object) -> tuple[str, ...]:
    """Return the modules of `preload`. Raises UnsupportedStorage."""
    if not isinstance(value, (list, tuple)):
        raise UnsupportedStorage(f"preload is a list of modules, not {value!r:.80}")
    return tuple(argument("preload", name) for name in value)


def log_level(value: object) -> int | None:
    """Return the number of a level of logging, which is given by its name; None for none. Raises UnsupportedStorage."""
    if value is None:
        return None
    if isinstance(value, str) and value in LOG_LEVELS:
        return LOG_LEVELS[value]
    raise UnsupportedStorage(f"log_level is one of {', '.join(LOG_LEVELS)}, not {value!r:.80}")


def limits(chosen: object, defaults: RunLimits) -> RunLimits:
    """Return the limits that were chosen for the run, and the agent's for the others. Raises UnsupportedStorage."""
    own = chosen if isinstance(chosen, Mapping) else {}
    given = {name: own[name] for name in RunLimits._fields if own.get(name) is not None}
    for name, value in given.items():
        if not is_positive_number(value):  # not ignored: a run without its limit may take the whole host
            raise UnsupportedStorage(f"the limit {name} is no positive number: {value!r:.80}")
    return defaults._replace(**given)


def weights(chosen: object, defaults: Weights) -> Weights:
    """Return the weights that were chosen for the run, and the agent's for the others. Raises UnsupportedStorage."""
    try:
        return defaults._replace(**checked(chosen if isinstance(chosen, Mapping) else {}))
    except ValueError as error:
        raise UnsupportedStorage(f"weights: {error}") from error
