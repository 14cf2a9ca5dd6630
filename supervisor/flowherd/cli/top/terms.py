"""The filter of `flowherd top`: `state:failed flow:price-* -label:web since:24h took:>10m backup`.

A comma between values is "or", `*` in a name stands for anything, a minus in front is "not", and words without a name
are looked for in name, flow, message and at the beginning of the id.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from flowherd.cli import parse_options
from flowherd.cli.failures import CommandError
from flowherd.cli.runs.run_filters import states_named
from flowherd.cli.top.picture import RunRow
from flowherd.errors import InvalidRequest
from flowherd.story.order import Group

if TYPE_CHECKING:
    from flowherd.client.agents import AgentView
    from flowherd.client.run_filter import RunFilter

NAMES = ("state", "is", "flow", "agent", "label", "since", "before", "took")
_IS = ("late", "stuck")
_TOOK = re.compile(r"([<>])(.+)")


@dataclass(frozen=True)
class Term:
    """One term; a word has an empty name."""

    name: str
    values: tuple[str, ...]
    negated: bool = False


@dataclass(frozen=True)
class Terms:
    """A filter: all terms have to hold."""

    terms: tuple[Term, ...] = ()
    #: Values of RunState that the terms of states name, by their values as they were written.
    states: tuple[tuple[str, frozenset[str]], ...] = ()
    #: Times that `since:` and `before:` name, and seconds of `took:`, by their values.
    moments: tuple[tuple[str, datetime], ...] = ()
    lengths: tuple[tuple[str, float], ...] = ()

    @property
    def names_states(self) -> bool:
        """Whether states or times are named, so that runs which have ended are wanted too."""
        return any(term.name in ("state", "since", "before", "took") for term in self.terms)

    def matches(self, row: RunRow) -> bool:
        """Return whether a row is among what is wanted."""
        return all(any(self._holds(term, value, row) for value in term.values) != term.negated for term in self.terms)

    def run_filter(self, agents: Sequence[AgentView]) -> RunFilter:
        """Return what a server can be asked for: it answers with all rows that match, and maybe with others."""
        from flowherd.client.run_filter import RunFilter

        found: dict[str, list[str]] = {name: [] for name in ("", *NAMES)}
        for term in self.terms:
            if not term.negated and not found[term.name]:
                found[term.name] = list(term.values)
        moments = dict(self.moments)
        known = dict(self.states)
        patterns = [name.lower() for name in found["agent"]]
        named = [agent.id for agent in agents if any(fnmatchcase(agent.name.lower(), name) for name in patterns)]
        return RunFilter(
            states=sorted({state for value in found["state"] for state in known[value]}),
            flows=found["flow"],
            # Of an agent that is not there nothing is found.
            agent_ids=named or (["00000000-0000-0000-0000-000000000000"] if patterns else []),
            labels=found["label"] if len(found["label"]) == 1 and "*" not in found["label"][0] else [],
            since=moments[found["since"][0]] if found["since"] else None,
            until=moments[found["before"][0]] if found["before"] else None,
            search=found[""][0] if found[""] else "",
        )

    def _holds(self, term: Term, value: str, row: RunRow) -> bool:
        if term.name == "state":
            return row.state in dict(self.states)[value]
        if term.name == "is":
            return bool(row.stuck) if value == "stuck" else row.group is Group.DUE
        if term.name in ("since", "before"):
            at, wanted = row.started or row.due, dict(self.moments)[value]
            return at is not None and (at >= wanted if term.name == "since" else at < wanted)
        if term.name == "took":
            return self._took(value, row)
        pattern = value.lower()
        if term.name:
            texts = {"flow": [row.flow], "agent": [row.agent], "label": row.labels}[term.name]
            return any(fnmatchcase(text.lower(), pattern) for text in texts)
        return row.id.startswith(pattern) or any(pattern in text.lower() for text in (row.name, row.flow, row.says))

    def _took(self, value: str, row: RunRow) -> bool:
        if row.started is None or row.ended is None:
            return False
        took_s, length_s = (row.ended - row.started).total_seconds(), dict(self.lengths)[value]
        return took_s < length_s if value.startswith("<") else took_s > length_s


def parse_terms(text: str, now: datetime) -> Terms:
    """Return the filter that a text describes. Raises InvalidRequest for a term that is none."""
    terms = []
    states: dict[str, frozenset[str]] = {}
    moments: dict[str, datetime] = {}
    lengths: dict[str, float] = {}
    for word in text.split():
        negated = word.startswith("-") and len(word) > 1
        name, colon, given = word[negated:].partition(":")
        if not colon:
            terms.append(Term("", (name.lower(),), negated))
            continue
        values = tuple(value for value in given.split(",") if value)
        if name not in NAMES:
            close = get_close_matches(name, NAMES, n=1)
            hint = f"did you mean {close[0]}:?" if close else f"terms are {', '.join(f'{one}:' for one in NAMES)}"
            raise InvalidRequest(f"{name}: is no term; {hint}")
        if not values:
            raise InvalidRequest(f"{name}: needs a value, as in {_EXAMPLES[name]}")
        for value in values:
            _check(name, value, now, states, moments, lengths)
        terms.append(Term(name, values, negated))
    return Terms(tuple(terms), tuple(states.items()), tuple(moments.items()), tuple(lengths.items()))


_EXAMPLES = {
    "state": "state:failed",
    "is": "is:late",
    "flow": "flow:price-*",
    "agent": "agent:barn-01",
    "label": "label:web",
    "since": "since:24h",
    "before": "before:2h",
    "took": "took:>10m",
}


def _check(
    name: str,
    value: str,
    now: datetime,
    states: dict[str, frozenset[str]],
    moments: dict[str, datetime],
    lengths: dict[str, float],
) -> None:
    try:
        if name == "state":
            states[value] = frozenset(states_named([value]))
        elif name == "is" and value not in _IS:
            raise InvalidRequest(f"is:{value} is no term; is:late and is:stuck are")
        elif name in ("since", "before"):
            moments[value] = parse_options.moment_or_ago(value, f"{name}:", now)
        elif name == "took":
            found = _TOOK.fullmatch(value)
            if found is None:
                raise InvalidRequest(f"took:{value} is no term; took:>10m and took:<10m are")
            lengths[value] = parse_options.duration_s(found[2], "took:")
    except CommandError as error:
        raise InvalidRequest(str(error).replace("--state ", "state:", 1)) from error
