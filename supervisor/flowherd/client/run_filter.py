"""Which flow runs a person means: by state, flow, agent, label, time and words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flowherd.client.run_ids import ids_that_begin_with


@dataclass(frozen=True, kw_only=True)
class RunFilter:
    """Conditions that all have to hold; empty ones are none."""

    #: The run is in one of these states.
    states: Sequence[str] = ()
    #: Its flow has one of these names; `*` in a name stands for anything.
    flows: Sequence[str] = ()
    #: It was claimed by one of the agents with these ids.
    agent_ids: Sequence[str] = ()
    #: It has all of these labels.
    labels: Sequence[str] = ()
    #: It started at this time or later, or before that one; a run that has not started counts by when it is due.
    since: datetime | None = None
    until: datetime | None = None
    #: Its name, message, flow or id contains this text, in any case; an id only at its beginning.
    search: str = ""

    def where(self) -> dict[str, Any] | None:
        """Return the condition as GraphQL has it; None if there is none."""
        parts: list[dict[str, Any]] = []
        if self.states:
            parts.append({"state": {"_in": sorted(self.states)}})
        if self.flows:
            parts.append(_any_of([{"flow": {"name": _named(name)}} for name in self.flows]))
        if self.agent_ids:
            parts.append({"agent_id": {"_in": sorted(self.agent_ids)}})
        if self.labels:
            parts.append({"labels": {"_contains": list(self.labels)}})
        if self.since is not None:
            parts.append(_at("_gte", self.since))
        if self.until is not None:
            parts.append(_at("_lt", self.until))
        if self.search:
            parts.append(_contains(self.search))
        return all_of(*parts)


def in_flow_group(name: str, project: str) -> dict[str, Any]:
    """Return the condition that a run is of a flow, whatever its version."""
    return {"flow": {"name": {"_eq": name}, "project": {"name": {"_eq": project}}}}


def all_of(*conditions: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the condition that all of these hold; those that are None are none."""
    parts = [condition for condition in conditions if condition]
    if len(parts) < 2:
        return parts[0] if parts else None
    return {"_and": parts}


def _any_of(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return parts[0] if len(parts) == 1 else {"_or": parts}


def _named(name: str) -> dict[str, str]:
    return {"_like": "%".join(map(_literally, name.split("*")))} if "*" in name else {"_eq": name}


def _literally(text: str) -> str:
    """Return the pattern of LIKE that only `text` matches."""
    return re.sub(r"([\\%_])", r"\\\1", text)


def _at(comparison: str, at: datetime) -> dict[str, Any]:
    time = {comparison: at.isoformat()}
    unstarted = {"_and": [{"start_time": {"_is_null": True}}, {"scheduled_start_time": time}]}
    return {"_or": [{"start_time": time}, unstarted]}


def _contains(text: str) -> dict[str, Any]:
    pattern = {"_ilike": f"%{_literally(text)}%"}
    found: list[dict[str, Any]] = [{"name": pattern}, {"state_message": pattern}, {"flow": {"name": pattern}}]
    ids = ids_that_begin_with(text)
    if ids is not None:
        found.append({"id": {"_gte": ids[0], "_lte": ids[1]}})
    return {"_or": found}
