"""The language in which people say which runs they mean: `state:failed flow:price-* -label:web since:24h backup`.

| term | a run matches if |
| --- | --- |
| `state:` | it is in a state, or one of those of `running`, `waiting`, `ended`, `failed` |
| `is:` | it is `late` or `stuck` |
| `flow:` `agent:` `label:` | it has that name; `*` stands for anything |
| `since:` `before:` | it started, or is to start, at a time or later, or before it; `24h` is that long ago |
| `took:` | it took longer or shorter: `took:>10m`, `took:<2s` |
| a word | its name, flow or message has the word in it, or its id begins so |

A comma is "or", a minus in front is "not", and all terms have to hold. Values with spaces stand in double quotes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from difflib import get_close_matches

from flowherd.states import FINISHED, SUCCESSFUL, TAKEN, WAITING, RunState
from flowherd.story.order import BAD
from flowherd.times import read_time

NAMES = ("state", "is", "flow", "agent", "label", "since", "before", "took")
#: Words for several states.
STATES = {
    "running": TAKEN,
    "waiting": WAITING,
    "ended": FINISHED | BAD,
    "failed": BAD,
    "bad": BAD,
    "success": SUCCESSFUL,
}
_BY_NAME = {**{state.value.lower(): frozenset({state}) for state in RunState}, **STATES}
_EXAMPLES = {
    "state": "state:failed",
    "is": "is:late or is:stuck",
    "flow": "flow:price-*",
    "agent": "agent:barn-01",
    "label": "label:web",
    "since": "since:24h",
    "before": "before:2030-01-31T08:00",
    "took": "took:>10m",
}
_WORD = re.compile(r'(?:[^\s"]|"[^"]*"?)+')
_DURATION = re.compile(r"(\d{1,6}(?:\.\d+)?)(s|m|h|d|w)", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True)
class Term:
    """One term; a word has an empty name."""

    name: str
    values: tuple[str, ...]
    negated: bool
    #: As it was written.
    text: str

    @property
    def states(self) -> frozenset[RunState]:
        """The states that a term `state:` names."""
        return frozenset().union(*(_states(value) for value in self.values))


@dataclass(frozen=True)
class Terms:
    """What was written."""

    terms: Sequence[Term] = ()
    #: What is wrong with the others, in sentences.
    problems: Sequence[str] = field(default=())

    def without(self, *dropped: Term) -> str:
        """Return the text without some of the terms."""
        return " ".join(term.text for term in self.terms if term not in dropped)

    def value_of(self, name: str) -> str:
        """Return the value that is the only one of the only term of this name; else nothing."""
        found = [term for term in self.terms if term.name == name]
        is_one = len(found) == 1 and len(found[0].values) == 1 and not found[0].negated
        return found[0].values[0] if is_one else ""


def read_terms(text: str, now: datetime) -> Terms:
    """Return the terms of a text. Those that are none are left out and described."""
    terms, problems = [], []
    for word in _WORD.findall(text):
        negated = word.startswith("-") and len(word) > 1
        name, colon, given = word[negated:].partition(":")
        if not colon or '"' in name:
            terms.append(Term("", (_unquoted(word[negated:]),), negated, word))
            continue
        values = tuple(value for value in map(_unquoted, _parts(given)) if value)
        problem = _problem(name, values, now)
        if problem:
            problems.append(problem)
        else:
            terms.append(Term(name, values, negated, word))
    return Terms(terms, problems)


def written(name: str, value: str) -> str:
    """Return a term as it is written."""
    return f'{name}:"{value}"' if re.search(r'[\s,"]', value) else f"{name}:{value}"


def moment(value: str, now: datetime) -> datetime:
    """Return the time that a value of `since:` or `before:` names. Raises ValueError if it names none."""
    found = _DURATION.fullmatch(value)
    if found:
        try:
            return now - timedelta(seconds=float(found[1]) * _SECONDS[found[2]])
        except OverflowError:
            raise ValueError(value) from None
    return read_time(value, naive="local")


def length(value: str) -> tuple[bool, float]:
    """Return whether `took:` wants longer ones, and than how many seconds. Raises ValueError if it says neither."""
    found = _DURATION.fullmatch(value[1:])
    if found is None or value[:1] not in ("<", ">"):
        raise ValueError(value)
    return value[0] == ">", float(found[1]) * _SECONDS[found[2]]


def _problem(name: str, values: Sequence[str], now: datetime) -> str:
    """Return what is wrong with a term; empty if nothing is."""
    if name not in NAMES:
        close = get_close_matches(name.lower(), NAMES, n=1)
        hint = (
            f"Did you mean {close[0]}:?" if close else f"There are {', '.join(f'{one}:' for one in NAMES)} and words."
        )
        return f"{name}: is not a term. {hint}"
    if not values:
        return f"{name}: needs a value, such as {_EXAMPLES[name]}."
    for value in values:
        if not _is_readable(name, value, now):
            close = get_close_matches(value.lower(), _BY_NAME, n=1) if name == "state" else []
            hint = f"Did you mean state:{close[0]}?" if close else f"Write it as {_EXAMPLES[name]}."
            return f"{name}:{value} cannot be read. {hint}"
    return ""


def _is_readable(name: str, value: str, now: datetime) -> bool:
    try:
        if name in ("since", "before"):
            moment(value, now)
        elif name == "took":
            length(value)
    except ValueError:
        return False
    return value in ("late", "stuck") if name == "is" else bool(_states(value)) if name == "state" else True


def _states(value: str) -> frozenset[RunState]:
    """Return the states that a word names: "Running" is one, "running" several."""
    one = frozenset(state for state in RunState if state.value == value)
    return one or _BY_NAME.get(value.lower(), frozenset())


def _parts(given: str) -> list[str]:
    return re.findall(r'(?:[^,"]|"[^"]*"?)+', given)


def _unquoted(text: str) -> str:
    return text.replace('"', "")
