"""The terms of a filter of runs (flowherd/story/run_terms.py) as conditions of the database."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sqlalchemy import ColumnElement, and_, false, func, not_, or_, select

from flowherd.states import TAKEN
from flowherd.story.run_terms import Term, Terms, length, moment
from flowherd_server.pages.frame import Ask
from flowherd_server.pages.run_rows import stuck_because
from flowherd_server.runs.runs_in_order import is_late, runs_where
from flowherd_server.store.microseconds import SECOND_US, to_us
from flowherd_server.store.tables import AGENT, FLOW, FLOW_RUN

Condition = ColumnElement[bool]


def conditions(ask: Ask, terms: Terms) -> list[Condition]:
    """Return the conditions; all have to hold."""
    return [_negated(term, or_(false(), *_of(ask, term))) for term in terms.terms]


def _negated(term: Term, condition: Condition) -> Condition:
    # What is not known, such as the agent of a run that none has, is not like anything.
    return not_(func.coalesce(condition, False)) if term.negated else condition


def _of(ask: Ask, term: Term) -> Iterable[Condition]:
    if term.name == "state":
        return [FLOW_RUN.c.state.in_(sorted(term.states))]
    if term.name == "is":
        return [is_late(ask.now_us) if value == "late" else _stuck(ask) for value in term.values]
    if term.name in ("since", "before"):
        return [_at(term.name, to_us(moment(value, ask.now))) for value in term.values]
    if term.name == "took":
        return [_took(ask, *length(value)) for value in term.values]
    if term.name == "flow":
        return [like(FLOW.c.name, value) for value in term.values]
    if term.name == "agent":
        agents = [select(AGENT.c.id).where(like(AGENT.c.name, value)) for value in term.values]
        return [FLOW_RUN.c.agent_id.in_(query) for query in agents]
    if term.name == "label":
        return [_label(value) for value in term.values]
    return [_word(value) for value in term.values]


def like(column: ColumnElement[str], value: str) -> Condition:
    """Return that a column has this value, in any case of letters; `*` in it stands for anything."""
    return column.ilike("%".join(map(_literally, value.split("*"))), escape="\\")


def _literally(text: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", text)


def _stuck(ask: Ask) -> Condition:
    taken = runs_where(ask.connection, FLOW_RUN.c.state.in_(sorted(TAKEN)))
    return FLOW_RUN.c.id.in_([run["id"] for run in taken if stuck_because(ask, run)])


def _at(name: str, at_us: int) -> Condition:
    def at(column: ColumnElement[int]) -> Condition:
        return column >= at_us if name == "since" else column < at_us

    unstarted = and_(FLOW_RUN.c.start_time.is_(None), at(FLOW_RUN.c.scheduled_start_time))
    return or_(at(FLOW_RUN.c.start_time), unstarted)


def _took(ask: Ask, is_longer: bool, seconds: float) -> Condition:
    took = func.coalesce(FLOW_RUN.c.end_time, ask.now_us) - FLOW_RUN.c.start_time
    least = round(seconds * SECOND_US)
    return took > least if is_longer else took < least


def _label(value: str) -> Condition:
    labels = func.json_each(FLOW_RUN.c.labels).table_valued("value", name="label")
    return select(1).select_from(labels).where(like(labels.c.value, value)).correlate(FLOW_RUN).exists()


def _word(word: str) -> Condition:
    pattern = f"*{word}*"
    columns = FLOW_RUN.c.name, FLOW.c.name, FLOW_RUN.c.state_message
    return or_(*(like(column, pattern) for column in columns), like(FLOW_RUN.c.id, f"{word}*"))
