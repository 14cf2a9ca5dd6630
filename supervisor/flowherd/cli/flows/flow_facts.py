"""What `flowherd flow` says of a flow: definition, rules, parameters, schedule, versions, as pairs of word and text."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any

from flowherd.cli.format_times import short_span, short_time
from flowherd.flow_rules import NO_RULES, RULES_KEY, FlowRules, read_rules
from flowherd.isolation.levels import asked_for_in_words
from flowherd.parameter_types import Kind, Parameter, choice_text, read_signature
from flowherd.schedules.cron_fields import ScheduleError
from flowherd.schedules.in_words import clocks_of, cron_lines, schedule_in_words, zones_of
from flowherd.schedules.own_clock import zone_named
from flowherd.times import read_time
from flowherd.weights import in_words

if TYPE_CHECKING:
    from flowherd.client.flow_list import FlowView

Facts = Sequence[tuple[str, str]]
Versions = Sequence[tuple[int, datetime | None]]

_MINUTES = "%a %Y-%m-%d %H:%M"
#: Number of versions that are named.
_VERSIONS = 5
#: Binary units of sizes, the largest first.
_UNITS = (("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10))


def facts(flow: FlowView, versions: Versions, times: Sequence[datetime], now: datetime) -> Facts:
    """Return what is to be said of a flow; `times` are the next ones of its schedule."""
    found = [
        _definition(flow),
        *_run_config(flow.run_config),
        ("labels", " ".join(flow.labels)),
        ("limits", ", ".join(_limits(flow.run_config.get("limits")))),
        ("weights", ", ".join(in_words(flow.run_config.get("weights")))),
        ("rules", "; ".join(rules_of(flow).in_words())),
        ("parameters", _parameters(flow)),
        ("schedule", _schedule(flow)),
        ("next", _next(flow, times)),
        ("until", _until(flow)),
        ("usually", "" if flow.usual_s is None else short_span(flow.usual_s)),
        ("versions", _versions(versions, now)),
    ]
    return [(word, text) for word, text in found if text]


def rules_of(flow: FlowView) -> FlowRules:
    """Return the rules of a flow; none if they cannot be read."""
    try:
        return read_rules(flow.settings.get(RULES_KEY))
    except ValueError:
        return NO_RULES


def _definition(flow: FlowView) -> tuple[str, str]:
    storage = flow.storage
    kind, argv = str(storage.get("type") or "").rpartition(".")[2], storage.get("argv")
    if kind == "Command" and isinstance(argv, list):
        return "command", shlex.join(map(str, argv))
    if kind == "Python":
        return "python", str(storage.get("ref") or "")
    return "storage", kind


def _run_config(run_config: Mapping[str, Any]) -> Facts:
    env, secrets = run_config.get("env"), run_config.get("secrets")
    return [
        ("directory", str(run_config.get("working_dir") or "")),
        ("user", str(run_config.get("user") or "")),
        ("isolation", asked_for_in_words(run_config)),
        ("interpreter", str(run_config.get("interpreter") or "")),
        # Values may be secrets.
        ("variables", " ".join(sorted([*_names(env), *_names(secrets)]))),
        ("image", str(run_config.get("image") or "")),
    ]


def _names(values: Any) -> list[str]:
    return list(values) if isinstance(values, dict) else []


def _limits(limits: Any) -> list[str]:
    """Return the limits in words, those that are known."""
    given = limits if isinstance(limits, dict) else {}
    words = []
    for name, word, write in (
        ("memory_bytes", "memory", _size),
        ("run_time_s", "run time", short_span),
        ("cpu_time_s", "CPU time", short_span),
        ("processes", "processes", str),
        ("open_files", "open files", str),
    ):
        value = given.get(name)
        if isinstance(value, int | float):
            words.append(f"{word} {write(value)}")
    return words


def _size(number: float) -> str:
    for unit, size in _UNITS:
        if number >= size:
            return f"{number / size:.4g}{unit}"
    return f"{number:.0f} bytes"


def _parameters(flow: FlowView) -> str:
    listed = {parameter.name: parameter for parameter in read_signature(flow.storage)}
    words = []
    for name in dict.fromkeys([*listed, *(flow.parameters or ()), *flow.defaults]):
        known, default = listed.get(name), flow.defaults.get(name)
        typed = f"{name}: {_type(known)}" if known is not None and known.kind is not Kind.ANY else name
        if default is None and known is not None:
            default = known.default
        if default is not None:
            words.append(f"{typed}={json.dumps(default, ensure_ascii=False)}")
        else:
            is_required = name in flow.required or (known is not None and known.required and name not in flow.defaults)
            words.append(f"{typed} (required)" if is_required else typed)
    return ", ".join(words)


def _type(parameter: Parameter) -> str:
    if parameter.kind is Kind.CHOICE:
        return " | ".join(map(choice_text, parameter.choices))
    return str(parameter.kind)


def _schedule(flow: FlowView) -> str:
    if flow.schedule is None:
        return ""
    words, cron = schedule_in_words(flow.schedule), cron_lines(flow.schedule)
    more = [part for part in (cron if cron != words else "", *zones_of(flow.schedule)) if part]
    paused = "" if flow.is_schedule_active else "; paused: `flowherd schedule resume`"
    return words + (f" ({', '.join(more)})" if more else "") + paused


def _next(flow: FlowView, times: Sequence[datetime]) -> str:
    """Return the next times in the schedule's zone, which stands beside the schedule, else in this host's."""
    zone = _zone(flow)
    return ", ".join(_written(at.astimezone(zone)) for at in times)


def _until(flow: FlowView) -> str:
    """Return the end of the schedule, if all its clocks have the same."""
    ends = {clock.get("end") for clock in clocks_of(flow.schedule)}
    end = ends.pop() if len(ends) == 1 else None
    if not isinstance(end, str):
        return ""
    return f"{read_time(end, naive='refuse').astimezone(_zone(flow)):{_MINUTES}}"


def _zone(flow: FlowView) -> tzinfo | None:
    zones = zones_of(flow.schedule)
    try:
        return zone_named(zones[0]) if len(zones) == 1 else None
    except ScheduleError:  # a zone that this host does not know
        return None


def _written(at: datetime) -> str:
    return at.strftime(f"{_MINUTES}:%S" if at.second else _MINUTES)


def _versions(versions: Versions, now: datetime) -> str:
    named = [f"{number} ({short_time(at, now)})" for number, at in versions[:_VERSIONS]]
    left = len(versions) - len(named)
    return ", ".join(named) + (f", {left} earlier ones" if left else "")
