"""What has changed for the worse or for the better, so that only changes are notified. Pure.

A condition is something that is not well, since when, and what was said about it: the last run of a flow failed, an
agent is away. It is kept until it is over, also over a restart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from flowherd.notify.kinds import Kind
from flowherd.notify.rules import Subject

_ANYTHING = Subject()


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Something that is not well."""

    #: What it is about, with its kind: "flow:ID", "late:ID", "agent-away:NAME".
    key: str
    kind: Kind
    #: What tells it from the same trouble with another cause.
    mark: str = ""
    #: Seconds since the epoch.
    since: float
    #: How many failures in a row it stands for.
    count: int = 1


class Change(Enum):
    """What the end of a run changes for its flow."""

    #: It fails now, and did not before.
    NEW = "new"
    #: It fails for another reason than before.
    OTHER = "other"
    #: It fails as before.
    AGAIN = "again"
    #: It had failed, and does not now.
    OVER = "over"


def change_by_end(known: Condition | None, *, is_bad: bool, mark: str) -> Change | None:
    """Return what an end changes; None for nothing. `mark` tells causes from one another."""
    if not is_bad:
        return None if known is None else Change.OVER
    if known is None:
        return Change.NEW
    return Change.AGAIN if known.mark == mark else Change.OTHER


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Something that a look has found not to be well."""

    key: str
    kind: Kind
    #: Title of the notification, and the others of its fields (message.py).
    title: str
    about: Subject = _ANYTHING
    #: Since when, seconds since the epoch; None if that is not known.
    since: float | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Relief:
    """What is to be said of something that a look has found to be well."""

    title: str
    about: Subject = _ANYTHING
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a look has found."""

    troubles: Sequence[Trouble]
    #: By the key of the condition that is over. One that is neither in trouble nor here has no object any more.
    reliefs: Mapping[str, Relief] = field(default_factory=dict)
    #: Keys of conditions of which nothing new is known, so that they stay as they are.
    kept: frozenset[str] = frozenset()


class LastingTroubles:
    """Troubles that have lasted long enough, seconds, and conditions that are over. Keeps when it saw each first."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._seen: dict[str, float] = {}

    def begun(self, known: Iterable[str], look: Look, now: float) -> list[tuple[Trouble, float]]:
        """Return the troubles that are to be notified, with since when they are there."""
        first = {
            each.key: self._seen.get(each.key, now) if each.since is None else each.since for each in look.troubles
        }
        self._seen = first
        new = [each for each in look.troubles if each.key not in set(known)]
        return [(each, first[each.key]) for each in new if now - first[each.key] >= self._after_s]


def ended(known: Iterable[Condition], look: Look) -> list[tuple[Condition, Relief | None]]:
    """Return the conditions that are over, with what to say of each; None for nothing."""
    still = {each.key for each in look.troubles} | look.kept
    return [(each, look.reliefs.get(each.key)) for each in known if each.key not in still]
