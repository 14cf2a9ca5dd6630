"""What a flow's document says, by the keys of a project file (docs/reference/flows-toml.md).

flowherd's server compares the flows of a project file with those that are registered by these keys, and `flowherd
apply` shows what differs. Versions of flowherd and the moment at which an interval begins are left out: they differ
each time a document is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flowherd.flow_rules import RULES_KEY, read_rules
from flowherd.isolation.levels import read_request
from flowherd.parameter_types import SIGNATURE
from flowherd.schedules.own_clock import FLOWHERD_CRON

#: What is known of a Python function, and no key of the file.
_NAMES, _TYPES = "names of its parameters", "types of its parameters"
#: Left out at any depth.
_VERSION_KEY = "__version__"
#: Keys of a run config and of its limits, with the keys of the file.
_HOW = {
    "labels": "labels",
    "working_dir": "working_dir",
    "interpreter": "interpreter",
    "preload": "preload",
    "env_files": "env_files",
    "user": "user",
    "log_level": "log_level",
}
_LIMITS = {"memory_bytes": "memory", "run_time_s": "timeout", "cpu_time_s": "cpu_time"}
_UNITS = ((1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K"))
#: Greater numbers of a document stay as they are.
_MOST = 1e18
_DURATIONS = ((86_400, "d"), (3600, "h"), (60, "m"))


def description(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys and values of a flow. What a project file has no key for is there under the document's key."""
    said = [*_what(document), *_how(_mapping(document.get("run_config")), document), *_when(document)]
    found = {key: value for key, value in said if value is not None and value != [] and value != {}}
    return {**found, **dict(_rules(document.get(RULES_KEY))), **dict(_parameters(document.get("parameters")))}


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what differs between two flows, by their documents: "key", "before" and "after"; None if it is not there.

    Names and types of a function's parameters only count if both documents have them: not every host can find them out.
    """
    old, new = description(before) if before else {}, description(after)
    keys = [*new, *(key for key in old if key not in new)]
    found = [
        {"key": key, "before": old.get(key), "after": new.get(key)} for key in keys if old.get(key) != new.get(key)
    ]
    return [
        each for each in found if each["key"] not in (_NAMES, _TYPES) or None not in (each["before"], each["after"])
    ]


def _what(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    storage = _mapping(document.get("storage"))
    if storage.get("type") == "Command":
        yield "command", storage.get("argv")
    elif storage.get("type") == "Python":
        yield "python", storage.get("ref")
        yield _NAMES, storage.get("parameters")
        yield _TYPES, _plain(storage.get(SIGNATURE))
    else:
        yield "storage", _plain(storage)
    for key in ("tasks", "edges", "environment", "description"):
        yield key, _plain(document.get(key))


def _how(config: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, name in _HOW.items():
        yield name, config.get(key)
    for key in ("env", "secrets"):
        for name, value in _mapping(config.get(key)).items():
            yield f"{key}.{name}", value
    for limit, value in _mapping(config.get("limits")).items():
        yield _LIMITS.get(limit, limit), _limit(limit, value)
    yield from _mapping(config.get("weights")).items()
    for name, value in _isolation(config.get("isolation")):
        yield ("isolation" if name == "level" else name), value
    yield "grace", _duration(config.get("grace_s"))
    others = {"type", "env", "secrets", "limits", "weights", "isolation", "grace_s", *_HOW}
    rest = {key: _plain(value) for key, value in config.items() if key not in others and value is not None}
    if config.get("type", "LocalRun") != "LocalRun":
        rest["type"] = config["type"]
    rest.pop(_VERSION_KEY, None)
    yield "run_config", rest


def _isolation(value: Any) -> Iterator[tuple[str, Any]]:
    try:
        yield from read_request(value).as_json().items()
    except ValueError:  # an agent refuses it too
        yield "level", _plain(value)


def _when(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    schedule = _mapping(document.get("schedule"))
    clocks = schedule.get("clocks")
    clock = _mapping(clocks[0]) if isinstance(clocks, list) and len(clocks) == 1 else {}
    if clock.get("type") == FLOWHERD_CRON:
        yield "cron", clock.get("cron")
        yield "timezone", clock.get("timezone")
        yield "until", clock.get("end")
    elif clock.get("type") == "IntervalClock" and _is_number(clock.get("interval")):
        yield "interval", _duration(clock["interval"] / 1e6)
        yield "until", _mapping(clock.get("end_date")).get("dt")
    else:
        yield "schedule", _plain(schedule)


def _rules(value: Any) -> Iterator[tuple[str, Any]]:
    try:
        rules = read_rules(value)
    except ValueError:
        yield RULES_KEY, value
        return
    yield "overlap", rules.overlap.value
    yield "catch_up", rules.catch_up.value
    if rules.max_running is not None:
        yield "max_running", rules.max_running
    if rules.retries:
        yield "retries", rules.retries
        yield "retry_delay", _duration(rules.retry_delay_s)
        yield "retry_backoff", rules.retry_backoff
        yield "retry_on", list(rules.retry_on)
    if rules.never_stuck:
        yield "never_stuck", True


def _parameters(value: Any) -> Iterator[tuple[str, Any]]:
    for parameter in value if isinstance(value, list) else ():
        if isinstance(parameter, Mapping) and isinstance(parameter.get("name"), str):
            yield f"parameters.{parameter['name']}", parameter.get("default")


def _limit(name: str, value: Any) -> Any:
    if name == "memory_bytes" and isinstance(value, int):
        size, unit = next(((size, unit) for size, unit in _UNITS if value % size == 0 and value), (1, ""))
        return f"{value // size}{unit}"
    return _duration(value) if name.endswith("_s") else value


def _duration(seconds: Any) -> Any:
    if not _is_number(seconds):
        return seconds
    for size, unit in _DURATIONS:
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size:.0f}{unit}"
    return f"{int(seconds) if seconds == int(seconds) else seconds}s"


def _is_number(value: Any) -> bool:
    """Return whether a value is a number with which floats can reckon."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _plain(value: Any) -> Any:
    """Return a value of JSON without the versions in it."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items() if key != _VERSION_KEY}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value
