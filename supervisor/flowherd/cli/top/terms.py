"""The filter of `flowherd top`, in the language of story/run_terms.py: which rows match, and what a server is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from flowherd.cli.top.picture import RunRow
from flowherd.errors import InvalidRequest
from flowherd.story.order import Group
from flowherd.story.run_terms import Term, length, moment, read_terms

if TYPE_CHECKING:
    from flowherd.client.agents import AgentView
    from flowherd.client.run_filter import RunFilter

#: An id that no agent has.
_NOBODY = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True)
class Filter:
    """Terms that all have to hold, and when they were written, which `since:24h` goes by."""

    terms: Sequence[Term] = ()
    at: datetime | None = None

    @property
    def names_states(self) -> bool:
        """Whether states or times are named, so that all runs which have ended are wanted too."""
        return any(term.name in ("state", "since", "before", "took") for term in self.terms)

    def matches(self, row: RunRow) -> bool:
        """Return whether a row is among what is wanted."""
        return all(any(self._holds(term, value, row) for value in term.values) != term.negated for term in self.terms)

    def run_filter(self, agents: Sequence[AgentView]) -> RunFilter:
        """Return what a server can be asked for: it answers with all rows that match, and maybe with others."""
        from flowherd.client.run_filter import RunFilter

        first: dict[str, Term] = {}
        for term in self.terms:
            if not term.negated:
                first.setdefault(term.name, term)
        found = {name: term.values for name, term in first.items()}
        patterns = [name.lower() for name in found.get("agent", ())]
        named = [agent.id for agent in agents if any(fnmatchcase(agent.name.lower(), name) for name in patterns)]
        label = found.get("label", ())
        return RunFilter(
            states=sorted(state.value for state in first["state"].states) if "state" in first else [],
            flows=found.get("flow", ()),
            agent_ids=named or ([_NOBODY] if patterns else []),
            labels=label if len(label) == 1 and "*" not in label[0] else [],
            since=self._moment(found["since"][0]) if "since" in found else None,
            until=self._moment(found["before"][0]) if "before" in found else None,
            search=found[""][0] if "" in found else "",
        )

    def _moment(self, value: str) -> datetime:
        assert self.at is not None, "terms are read at a time"
        return moment(value, self.at)

    def _holds(self, term: Term, value: str, row: RunRow) -> bool:
        if term.name == "state":
            return row.state in term.states
        if term.name == "is":
            return bool(row.stuck) if value == "stuck" else row.group is Group.DUE
        if term.name in ("since", "before"):
            at, wanted = row.started or row.due, self._moment(value)
            return at is not None and (at >= wanted if term.name == "since" else at < wanted)
        if term.name == "took":
            return self._took(value, row)
        pattern = value.lower()
        if term.name:
            texts = {"flow": [row.flow], "agent": [row.agent], "label": row.labels}[term.name]
            return any(fnmatchcase(text.lower(), pattern) for text in texts)
        return row.id.startswith(pattern) or any(pattern in text.lower() for text in (row.name, row.flow, row.says))

    def _took(self, value: str, row: RunRow) -> bool:
        end = row.ended or self.at
        if row.started is None or end is None:
            return False
        longer, seconds = length(value)
        took_s = (end - row.started).total_seconds()
        return took_s > seconds if longer else took_s < seconds


def read_filter(text: str, now: datetime) -> Filter:
    """Return the filter that a text describes. Raises InvalidRequest for a term that is none."""
    found = read_terms(text, now)
    if found.problems:
        raise InvalidRequest(found.problems[0])
    return Filter(tuple(found.terms), now)
