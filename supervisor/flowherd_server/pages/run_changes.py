"""Running a run again with changes: the form of its flow, filled in with what the run had.

Secrets, and values that are too long for a field, are not shown: what is left empty is what the run had. So is a field
that nobody has changed, whatever its text would be read as.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, select
from starlette.datastructures import FormData

from flowherd.parameter_types import Kind, choice_text
from flowherd.states import FINISHED
from flowherd.web.form_tokens import FIELD
from flowherd.web.shown_values import shown_value
from flowherd_server.pages.actions import Action, Deed, Outcome, Question
from flowherd_server.pages.frame import Ask, NoSuchPage
from flowherd_server.pages.run_form import MAX_SHOWN, OTHERS, Field, RunForm, read_form, run_form
from flowherd_server.pages.run_lookup import find_run, run_of
from flowherd_server.runs.create_flow_runs import default_labels, default_run_config
from flowherd_server.service import ServerCore
from flowherd_server.store.plain import find_row
from flowherd_server.store.tables import FLOW, FLOW_GROUP

#: Prefix of the idempotency key of a run that this form has created.
_KEY_PREFIX = "page:"


@dataclass(frozen=True)
class _Known:
    """A run and the form that is filled in with it."""

    run: Mapping[str, Any]
    form: RunForm
    #: Parameters of the run that the form does not show, by name.
    hidden: Mapping[str, Any]
    #: Whether labels and run config were chosen for the run, and are not those of its flow.
    has_own_labels: bool
    has_own_config: bool


def _known(core: ServerCore, connection: Connection, run: Mapping[str, Any]) -> _Known:
    """Fill in the form of the newest version of the run's flow. Raises NoSuchPage if there is none."""
    flow = find_row(connection, FLOW, run["flow_id"], ("serialized_flow",))
    assert flow is not None, "the database keeps a flow while it has runs"
    group = find_row(connection, FLOW_GROUP, flow["flow_group_id"])
    of_group = (FLOW.c.version_group_id == flow["version_group_id"]) & ~FLOW.c.archived
    newest = connection.execute(select(FLOW.c.id).where(of_group).order_by(FLOW.c.version.desc()).limit(1)).scalar()
    if newest is None or group is None:
        raise NoSuchPage(f"The flow {flow['name']} is no longer registered; register it again, then run it.")
    form = run_form(core, connection, newest)
    given = dict(run["parameters"] or {})
    fields = [_filled(field, given) for field in form.fields]
    hidden = {name: value for name, value in given.items() if _is_hidden(name, value)}
    named = {field.parameter.name for field in fields}
    others = {name: value for name, value in given.items() if name not in named and name not in hidden}
    shown = "\n".join(f"{name}={_written(value)}" for name, value in others.items()) if form.takes_others else ""
    has_own_labels = run["labels"] != default_labels(flow, group)
    labels = run["labels"] if has_own_labels else form.labels
    return _Known(
        run=run,
        form=replace(form, fields=fields, others=shown, labels=labels),
        hidden=hidden,
        has_own_labels=has_own_labels,
        has_own_config=run["run_config"] != default_run_config(flow, group),
    )


def _is_hidden(name: str, value: Any) -> bool:
    return shown_value(name, value)[1] or len(_written(value)) > MAX_SHOWN


def _filled(field: Field, given: Mapping[str, Any]) -> Field:
    name = field.parameter.name
    if name not in given:
        return field
    value = given[name]
    if _is_hidden(name, value):
        hint = "Not shown; empty is what the run had."
        return replace(field, parameter=replace(field.parameter, required=False), value="", placeholder="", hint=hint)
    return replace(field, value=_in_field(field, value))


def _in_field(field: Field, value: Any) -> str:
    if value is None:
        return ""
    if field.choices:
        return choice_text(value)
    return value if isinstance(value, str) and field.parameter.kind is not Kind.ANY else _written(value)


def _written(value: Any) -> str:
    """Return a value as it is written after `name=`: text as it is, unless it would be read as something else."""
    if isinstance(value, str) and value.strip() == value and "\n" not in value:
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value, ensure_ascii=False)


def _input(known: _Known, entered: FormData) -> dict[str, Any]:
    """Return the input of `create_flow_run` for what was entered. Raises Refused with all that is wrong."""
    given, form = dict(known.run["parameters"] or {}), known.form
    named = {field.parameter.name for field in form.fields}
    same = {
        field.parameter.name
        for field in form.fields
        if field.parameter.name in given and str(entered.get(field.name, "")) == field.value
    }
    # A browser sends CR LF at the ends of lines.
    are_others_same = str(entered.get(OTHERS, "")).replace("\r\n", "\n") == form.others
    changed = [field for field in form.fields if field.parameter.name not in same]
    read = replace(form, fields=changed, takes_others=form.takes_others and not are_others_same)
    found = read_form(read, entered)
    others = given if are_others_same else known.hidden
    kept = {name: value for name, value in others.items() if name not in named and form.takes_others}
    parameters = {**kept, **found["parameters"], **{name: given[name] for name in given if name in same}}
    labels = {"labels": known.run["labels"]} if known.has_own_labels else {}
    config = {"run_config": known.run["run_config"]} if known.has_own_config else {}
    return {**config, **labels, **found, "parameters": parameters}


def _question(ask: Ask) -> Question:
    run = run_of(ask)
    known = _known(ask.core, ask.connection, run)
    is_over = run["state"] in FINISHED
    first = f"The new run has what {run['name']} had, except what you change here."
    return Question(
        headline=f"Run {known.form.flow_name} again with changes?"
        if is_over
        else f"Run another {known.form.flow_name}?",
        sentences=[first],
        button="Run",
        template="run_question.html",
        values={"form": known.form},
        back=f"/runs/{run['id']}",
        here="/runs",
    )


def _run(deed: Deed) -> Outcome:
    with deed.core.database.reading() as connection:
        run = find_run(connection, deed.given["run"])
        known = _known(deed.core, connection, run)
    given = _input(known, deed.form)
    # The form's own key, so that a doubled click or a repeated request starts one run.
    key = _KEY_PREFIX + str(deed.form.get(FIELD, "")).partition(".")[0]
    run_id = deed.carry_out("create_flow_run", {**given, "repeats": run["id"], "idempotency_key": key})["id"]
    return Outcome(f"Created a run that repeats {run['name']}.", to=f"/runs/{run_id}")


ACTIONS = (Action(path="/runs/{run}/changed", question=_question, carry_out=_run),)
