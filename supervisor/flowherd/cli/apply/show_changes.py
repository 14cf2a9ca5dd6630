"""What `flowherd apply` prints: each flow that has changed, and its keys before and after."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from flowherd.cli.apply.project_file import ProjectFile
from flowherd.cli.printing import json_line, print_line, print_note
from flowherd.cli.runs.selection import counted
from flowherd.cli.tables.styles import styled, uses_colours
from flowherd.client.flow_schedule import ChosenSchedule
from flowherd.client.flows_of_project import Applied, Difference, FlowChange
from flowherd.shown_text import one_line

#: Sign and colour of each action.
_SIGNS = {
    "registered": ("+", "good"),
    "changed": ("~", "warn"),
    "taken over": ("~", "warn"),
    "unregistered": ("-", "bad"),
}
_UNCHANGED = {"same": "as before", "left": "not in the file"}
#: Variables and parameters whose values are not shown; more than runs mask in their logs (docs/reference/masking.md).
_SECRET = re.compile(r"TOKEN|SECRET|PASS|PWD|CREDENTIAL|BEARER|COOKIE|WEBHOOK|KEY|AUTH|DSN|SAS|CONN", re.IGNORECASE)
_PASSWORD_IN_URL = re.compile(r"://[^/\s:@]*:[^/\s]+@")
_HIDDEN = "***"


def show_changes(declared: ProjectFile, applied: Applied, *, dry_run: bool) -> None:
    """Print the changes, and how many there are."""
    coloured, changes = uses_colours(), applied.flows
    for change in changes:
        for line in _lines(change, declared):
            style = _SIGNS[change.action][1] if coloured and line[0] in "+~-" and change.action in _SIGNS else ""
            print(styled(one_line(line), style), flush=True)
    for line, style in _rule_lines(applied):
        print(styled(one_line(line), style if coloured else ""), flush=True)
    counts = Counter(change.action for change in changes)
    done = [f"{counts[action]} {action}" for action in _SIGNS if counts[action]]
    rest = [f"{counts[action]} {words}" for action, words in _UNCHANGED.items() if counts[action]]
    summary = ", ".join([*done, *rest]) or "no flows"
    print_line(f"project {declared.project}: {'would be ' if dry_run and done else ''}{summary}")
    if dry_run:
        print_note("nothing was changed (--dry-run)")


def _rule_lines(applied: Applied) -> Iterator[tuple[str, str]]:
    """Return the rules of notifications that are new or gone, each with its style."""
    for rule in applied.rules:
        if rule not in applied.rules_before:
            yield f"+ notify: {_rule_words(rule)}", "good"
    for rule in applied.rules_before:
        if rule not in applied.rules:
            yield f"- notify: {_rule_words(rule)}", "bad"


def _rule_words(rule: Mapping[str, Any]) -> str:
    parts = [f"{key} {', '.join(rule[key])}" for key in ("on", "flows", "labels", "to") if rule[key]]
    return "; ".join([*parts, *(["each failure"] if rule["every_failure"] else [])])


def shown(key: str, value: Any) -> Any:
    """Return a value as it may be shown: one that is named like a secret, or has a password in it, as ***."""
    where, _, name = key.partition(".")
    if where not in ("env", "parameters") or value is None:
        return value
    is_secret = _SECRET.search(name) or (isinstance(value, str) and _PASSWORD_IN_URL.search(value))
    return _HIDDEN if is_secret else value


def _lines(change: FlowChange, declared: ProjectFile) -> Iterator[str]:
    if change.action == "left":
        yield f"  {change.name}: not in the file, and still registered; --prune unregisters it"
    elif change.action == "unregistered":
        yield f"- {change.name}{''.join(_consequences(change))}"
    elif change.action == "registered":
        schedule = next((flow.schedule for flow in declared.flows if flow.name == change.name), None)
        yield f"+ {change.name}" + (f": {schedule.in_words()}{_end(schedule)}" if schedule else "")
    elif change.action != "same":
        yield f"~ {change.name}" + (": taken over" if change.action == "taken over" else "")
        yield from map(_difference, change.differences)
    if change.paused:
        yield f"  {change.name}: its schedule is paused; `flowherd schedule resume {change.name}` ends that"


def _end(schedule: ChosenSchedule) -> str:
    return "" if schedule.until is None else f", until {schedule.written(schedule.until)}"


def _consequences(change: FlowChange) -> Iterator[str]:
    if change.cancelled:
        yield f"; {counted(change.cancelled, 'waiting run')} cancelled"
    if change.running:
        yield f"; {counted(change.running, 'run')} still being run"


def _difference(difference: Difference) -> str:
    before, after = (
        "(none)" if value is None else json_line(shown(difference.key, value))
        for value in (difference.before, difference.after)
    )
    changed = " (changed)" if before == after else ""
    return f"    {difference.key}: {before} -> {after}{changed}"
