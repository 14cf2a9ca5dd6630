"""Which notifications go to which channels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from flowherd.notify.kinds import BAD_ENDS, Kind

#: The keys of a rule, as they are written and stored.
KEYS = ("on", "flows", "labels", "to", "every_failure")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule. An empty list leaves open what it would restrict."""

    on: frozenset[Kind]
    #: Names of flows; * and ? stand for any characters.
    flows: tuple[str, ...] = ()
    #: Labels of which a run, or an agent, has at least one.
    labels: tuple[str, ...] = ()
    #: Names of channels; all channels if there are none.
    to: tuple[str, ...] = ()
    #: Whether each failure is notified, and not only the first in a row and those with another cause.
    every_failure: bool = False
    #: The project whose flows the rule is about; None for all flows, agents and disks.
    project: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the rule as it is written in a file, with all keys."""
        return {
            "on": [kind.value for kind in Kind if kind in self.on],
            "flows": list(self.flows),
            "labels": list(self.labels),
            "to": list(self.to),
            "every_failure": self.every_failure,
        }

    def wants(self, kind: Kind, about: Subject, *, over: Kind | None = None, again: bool = False) -> bool:
        """Return whether a notification is wanted.

        `over` is what has ended, with the kind "recovered". `again` marks a failure like the one before it.
        """
        # A run that was lost has failed.
        is_wanted = kind in self.on or (kind is Kind.LOST and Kind.FAILED in self.on)
        if not is_wanted or (again and not self.every_failure):
            return False
        # Nobody wants to hear the end of what they did not want to hear the beginning of. A rule on "recovered" alone
        # is about flows that had failed.
        if over is not None and over not in BAD_ENDS and over not in self.on:
            return False
        return self._concerns(about)

    def _concerns(self, about: Subject) -> bool:
        if self.project is not None and about.project != self.project:
            return False
        if self.flows and not any(fnmatchcase(about.flow or "", pattern) for pattern in self.flows):
            return False
        return not self.labels or not set(self.labels).isdisjoint(about.labels)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a notification is about, as far as rules look at it."""

    flow: str | None = None
    project: str | None = None
    labels: tuple[str, ...] = ()


def read_rule(value: Any, project: str | None = None) -> Rule:
    """Return the rule in a value from a file or a request. Raises ValueError, which names the key that is wrong."""
    if not isinstance(value, Mapping):
        raise ValueError("a rule is a table, such as [[notify]] with the key `on`")
    unknown = sorted(map(str, value.keys() - set(KEYS)))
    if unknown:
        raise ValueError(f"{unknown[0]}: there is no such key; a rule has {', '.join(KEYS)}")
    texts = {name: _texts(name, value.get(name, [])) for name in ("on", "flows", "labels", "to")}
    if not texts["on"]:
        raise ValueError(f"on: must name at least one of {_listed()}")
    wrong = [word for word in texts["on"] if word not in set(Kind)]
    if wrong:
        raise ValueError(f"on: {wrong[0]!r} is none of {_listed()}")
    every = value.get("every_failure", False)
    if not isinstance(every, bool):
        raise ValueError("every_failure: must be true or false")
    return Rule(
        on=frozenset(map(Kind, texts["on"])),
        flows=texts["flows"],
        labels=texts["labels"],
        to=texts["to"],
        every_failure=every,
        project=project,
    )


def channels_for(
    rules: Iterable[Rule],
    channels: Sequence[str],
    kind: Kind,
    about: Subject,
    *,
    over: Kind | None = None,
    again: bool = False,
) -> list[str]:
    """Return the names of the channels that get a notification, each once, in their order."""
    chosen = {
        name
        for rule in rules
        if rule.wants(kind, about, over=over, again=again)
        for name in (rule.to or tuple(channels))
    }
    return [name for name in channels if name in chosen]


def unknown_channels(rule: Rule, channels: Collection[str]) -> str:
    """Return what is wrong with a rule that names a channel that there is not; empty if it names none."""
    wrong = [name for name in rule.to if name not in channels]
    if not wrong:
        return ""
    known = f"there are {', '.join(sorted(channels))}" if channels else "there is none"
    return f"to: there is no channel {wrong[0]!r} in the settings notify.channels; {known}"


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) and one.strip() for one in value):
        raise ValueError(f'{name}: must be a list of texts, such as ["one", "two"]')
    return tuple(value)


def _listed() -> str:
    return ", ".join(kind.value for kind in Kind)
