"""The form that starts a run of a flow: one field a parameter, as its type wants it, and what becomes of its text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, select
from starlette.datastructures import FormData

from flowherd.parameter_names import parameter_names
from flowherd.parameter_types import Kind, Parameter, choice_text, form_parameters, json_or_text, value_of
from flowherd.times import read_time
from flowherd.web.shown_values import DOTS, is_secret_name
from flowherd_server.errors import Refused
from flowherd_server.label_rule import labels_match
from flowherd_server.pages.frame import NoSuchPage
from flowherd_server.runs.create_flow_runs import default_labels
from flowherd_server.service import ServerCore
from flowherd_server.store.microseconds import to_us
from flowherd_server.store.tables import AGENT, FLOW, FLOW_GROUP

#: Prefix of the fields of parameters; those of the others.
_PREFIX = "p."
LABELS, AT, OTHERS, FLOW_ID = "labels", "at", "others", "flow"
#: Longer values are not put into a field; one that is left empty is its default then.
MAX_SHOWN = 2000


@dataclass(frozen=True)
class Field:
    """A field of the form."""

    parameter: Parameter
    #: What stands in it at first, in the place of text, and below it.
    value: str
    placeholder: str
    hint: str

    @property
    def name(self) -> str:
        """Name of the field."""
        return _PREFIX + self.parameter.name

    @property
    def input_type(self) -> str:
        """Type of the input element."""
        if is_secret_name(self.parameter.name):
            return "password"
        return {Kind.DATE: "date", Kind.TIME: "datetime-local"}.get(self.parameter.kind, "text")

    @property
    def choices(self) -> Sequence[str]:
        """The values to choose from; none for a field of text."""
        choices = (False, True) if self.parameter.kind is Kind.BOOLEAN else self.parameter.choices
        return [choice_text(choice) for choice in choices]

    def problem(self, entered: FormData) -> str:
        """Return what is wrong with what was entered; empty if nothing is, or nothing was entered yet."""
        if self.name not in entered:
            return ""
        try:
            _given(self.parameter, str(entered[self.name]))
        except ValueError as error:
            return str(error)
        return ""


@dataclass(frozen=True)
class RunForm:
    """The form of one flow."""

    flow_id: str
    flow_name: str
    fields: Sequence[Field]
    labels: Sequence[str]
    #: Names of the agents that live and would take the run.
    agents: Sequence[str]
    #: Whether the flow takes parameters that have no field.
    takes_others: bool
    #: What stands at first in the field of parameters that have none of their own.
    others: str = ""

    @property
    def command(self) -> str:
        """The command that does the same."""
        needed = "".join(f" -p {field.parameter.name}=…" for field in self.fields if field.parameter.required)
        return f"flowherd run {self.flow_name}{needed}"

    @property
    def who_takes_it(self) -> str:
        """A sentence about the agents."""
        if self.agents:
            return f"Agents that take it: {', '.join(self.agents)}."
        wanted = (
            "no labels"
            if not self.labels
            else "the label" + ("s " if len(self.labels) > 1 else " ") + ", ".join(self.labels)
        )
        return f"No agent that is there takes a run with {wanted}; it would wait for one."


def run_form(core: ServerCore, connection: Connection, flow_id: str) -> RunForm:
    """Return the form. Raises NoSuchPage if the flow is not registered any more."""
    columns = [
        FLOW.c[name] for name in ("id", "name", "storage", "parameters", "run_config", "environment", "flow_group_id")
    ]
    row = connection.execute(select(*columns).where(FLOW.c.id == flow_id, ~FLOW.c.archived)).mappings().first()
    if row is None:
        raise NoSuchPage("This version of the flow is not registered any more; look at the list of flows.")
    group = connection.execute(select(FLOW_GROUP).where(FLOW_GROUP.c.id == row["flow_group_id"])).mappings().one()
    parameters = form_parameters(row["storage"] or {}, row["parameters"], group["default_parameters"])
    labels = default_labels(row, group)
    return RunForm(
        flow_id=row["id"],
        flow_name=row["name"],
        fields=[_field(parameter, row) for parameter in parameters],
        labels=labels,
        agents=_takers(core, connection, labels),
        takes_others=parameter_names(row["storage"], row["parameters"]) is None,
    )


def _field(parameter: Parameter, flow: RowMapping) -> Field:
    known = parameter.has_default and parameter.default is not None
    default = _text(parameter.default) if known else ""
    default = default if len(default) <= MAX_SHOWN and not is_secret_name(parameter.name) else ""
    if parameter.required:
        return Field(parameter, "", "", "")
    if is_secret_name(parameter.name):
        return Field(parameter, "", DOTS if known else "", "Empty is its default." if known else "")
    if parameter.kind in (Kind.INTEGER, Kind.NUMBER, Kind.BOOLEAN, Kind.CHOICE):
        return Field(parameter, default, "", "")
    is_command = (flow["storage"] or {}).get("type") == "Command"
    empty = f"{{{parameter.name}}} stays as it is" if is_command and not known else "its default"
    kind = {Kind.TEXT: "Text", Kind.ANY: "Text or JSON"}.get(parameter.kind, "")
    if known and not default:
        empty = "its default, which is not shown"
    return Field(
        parameter,
        "",
        default,
        f"{kind}; empty is {empty}." if kind else f"Empty is {empty}{f', {default}' if default else ''}.",
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _given(parameter: Parameter, text: str) -> Any:
    """Return the value of a field. Raises ValueError if it is none; returns `...` for an empty one."""
    if text.strip():
        return value_of(parameter, text)
    if parameter.required:
        raise ValueError("it is needed and has no default")
    return ...


def read_form(form: RunForm, entered: FormData) -> dict[str, Any]:
    """Return the input of `create_flow_run` for what was entered. Raises Refused with all that is wrong."""
    parameters: dict[str, Any] = {}
    problems = []
    for field in form.fields:
        try:
            value = _given(field.parameter, str(entered.get(field.name, "")))
        except ValueError as error:
            problems.append(f"{field.parameter.name}: {error}")
        else:
            parameters |= {} if value is ... else {field.parameter.name: value}
    found: dict[str, Any] = {"flow_id": form.flow_id}
    try:
        parameters |= _others(str(entered.get(OTHERS, ""))) if form.takes_others else {}
        at = str(entered.get(AT, "")).strip()
        if at:
            found["scheduled_start_time"] = to_us(read_time(at, naive="local"))
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise Refused("; ".join(problems))
    labels = [label for label in (part.strip() for part in str(entered.get(LABELS, "")).split(",")) if label]
    if LABELS in entered and sorted(labels) != sorted(form.labels):
        found["labels"] = labels
    return {**found, "parameters": parameters}


def _others(text: str) -> Mapping[str, Any]:
    """Return the parameters of lines such as `name=value`. Raises ValueError for another line."""
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, equals, value = line.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"other parameters: {line!r} is not written as name=value")
        found[name.strip()] = json_or_text(value.strip())
    return found


def _takers(core: ServerCore, connection: Connection, labels: Sequence[str]) -> list[str]:
    rows = connection.execute(select(AGENT.c.id, AGENT.c.name, AGENT.c.labels)).all()
    return sorted(
        {row.name or "" for row in rows if core.board.is_connected(row.id) and labels_match(labels, row.labels)}
    )
