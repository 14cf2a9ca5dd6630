"""The types of a flow's parameters: how they are registered, and how the text of a form's field becomes a value.

A flow's storage may list them under the key "signature", in the order of the function's own parameters:

    name       the parameter's name
    type       one of Kind
    choices    its possible values, if the type is "choice"
    required   true if it has no default
    default    its default, if it has one that is a short JSON scalar

flowherd reads them from the annotations when it registers a Python function. Servers store them unread.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import Enum
from typing import Any

#: Key of the list in a flow's storage.
SIGNATURE = "signature"
#: Longer texts are left out of what is registered: defaults, and choices.
MAX_TEXT = 200
#: Maximum number of choices; a parameter with more takes any value.
MAX_CHOICES = 100
#: Maximum number of parameters of which something is registered.
MAX_PARAMETERS = 200
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


class Kind(str, Enum):
    """What values a parameter takes."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    #: A date, and a date with a time, as ISO 8601 texts.
    DATE = "date"
    TIME = "time"
    CHOICE = "choice"
    ANY = "any"

    __str__ = str.__str__


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of a flow as a form shows it."""

    name: str
    kind: Kind = Kind.ANY
    choices: Sequence[Any] = ()
    required: bool = False
    #: Whether `default` is known; it may be None.
    has_default: bool = False
    default: Any = None

    def as_json(self) -> dict[str, Any]:
        """Return it as an element of the storage's list."""
        found: dict[str, Any] = {"name": self.name, "type": self.kind.value}
        if self.kind is Kind.CHOICE:
            found["choices"] = list(self.choices)
        if self.required:
            found["required"] = True
        elif self.has_default and is_short_scalar(self.default):
            found["default"] = self.default
        return found


def is_short_scalar(value: Any) -> bool:
    """Return whether a value is null, a boolean, a finite number or a short text."""
    if isinstance(value, str):
        return len(value) <= MAX_TEXT
    if isinstance(value, int | float) and not isinstance(value, bool):
        return abs(value) < 1e300  # also false for NaN
    return value is None or isinstance(value, bool)


def signature_entry(parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Return what the parameters add to a storage: nothing if there are none."""
    listed = [parameter.as_json() for parameter in parameters[:MAX_PARAMETERS]]
    return {SIGNATURE: listed} if listed else {}


def read_signature(storage: object) -> list[Parameter]:
    """Return the parameters that a storage lists. What cannot be read is left out."""
    rows = storage.get(SIGNATURE) if isinstance(storage, Mapping) else None
    found = [_read(row) for row in rows[:MAX_PARAMETERS]] if isinstance(rows, list) else []
    return [parameter for parameter in found if parameter is not None]


def _read(row: object) -> Parameter | None:
    if not isinstance(row, Mapping) or not isinstance(row.get("name"), str):
        return None
    kind = next((kind for kind in Kind if kind.value == row.get("type")), Kind.ANY)
    choices: Any = row.get("choices")
    given = [choice for choice in choices if is_short_scalar(choice)] if isinstance(choices, list) else []
    if kind is Kind.CHOICE and not given:
        kind = Kind.ANY
    return Parameter(
        name=row["name"],
        kind=kind,
        choices=given if kind is Kind.CHOICE else (),
        required=row.get("required") is True,
        has_default="default" in row,
        default=row.get("default"),
    )


def form_parameters(
    storage: Mapping[str, Any], registered: Sequence[Mapping[str, Any]], defaults: Mapping[str, Any]
) -> list[Parameter]:
    """Return the parameters that a form asks for.

    `storage` and `registered` are the flow's storage and its list of parameters at the server, `defaults` those of its
    group, which take precedence. Without a registered type, a default tells it. A command has the parameters that its
    arguments name.
    """
    storage_names = storage.get("parameters")
    names = [*_placeholders(storage), *(storage_names if isinstance(storage_names, list) else ())]
    found = {name: Parameter(name=name) for name in names if isinstance(name, str)}
    found |= {parameter.name: parameter for parameter in read_signature(storage)}
    for row in registered:
        if isinstance(row.get("name"), str):
            found[row["name"]] = _registered(found.get(row["name"]), row)
    for name, value in defaults.items():
        found[name] = _with_default(found.get(name, Parameter(name=name)), value)
    is_command = storage.get("type") == "Command"
    return [_of_command(parameter) if is_command else parameter for parameter in found.values()]


def _placeholders(storage: Mapping[str, Any]) -> Iterator[str]:
    argv = storage.get("argv")
    for argument in argv if storage.get("type") == "Command" and isinstance(argv, list) else ():
        yield from _PLACEHOLDER.findall(argument) if isinstance(argument, str) else ()


def _of_command(parameter: Parameter) -> Parameter:
    """Return a parameter of a command, to which all values are texts."""
    return parameter if parameter.kind is not Kind.ANY else replace(parameter, kind=Kind.TEXT)


def _registered(known: Parameter | None, row: Mapping[str, Any]) -> Parameter:
    """Return a parameter with what the server's list says of it."""
    if known is None:
        is_time = str(row.get("type", "")).endswith("DateTimeParameter")
        known = Parameter(name=row["name"], kind=Kind.TIME if is_time else Kind.ANY)
    if row.get("required") is True:
        return replace(known, required=True, has_default=False, default=None)
    return known if row.get("default") is None and known.has_default else _with_default(known, row.get("default"))


def _with_default(known: Parameter, default: Any) -> Parameter:
    kind = kind_of(default) if known.kind is Kind.ANY else known.kind
    return replace(known, kind=kind, required=False, has_default=True, default=default)


def kind_of(value: Any) -> Kind:
    """Return the kind of a value; a text may be of any kind that is written as one."""
    for kind, types in ((Kind.BOOLEAN, bool), (Kind.INTEGER, int), (Kind.NUMBER, float), (Kind.TEXT, str)):
        if isinstance(value, types):
            return kind
    return Kind.ANY


def choice_text(choice: Any) -> str:
    """Return a choice as a form shows and sends it."""
    return choice if isinstance(choice, str) else json.dumps(choice)


def value_of(parameter: Parameter, text: str) -> Any:
    """Return the value that a field's text stands for. Raises ValueError with what the parameter takes instead."""
    if parameter.kind is Kind.TEXT:
        return text
    text = text.strip()
    if parameter.kind is Kind.CHOICE:
        return _choice(parameter.choices, text)
    if parameter.kind is Kind.BOOLEAN:
        return _choice((True, False), text.lower())
    if parameter.kind is Kind.INTEGER:
        return _converted(int, text, "a whole number, such as 50000")
    if parameter.kind is Kind.NUMBER:
        return _number(text)
    if parameter.kind is Kind.DATE:
        return _converted(date.fromisoformat, text, "a date, such as 2030-01-31").isoformat()
    if parameter.kind is Kind.TIME:
        _converted(datetime.fromisoformat, text.replace("Z", "+00:00"), "a time, such as 2030-01-31T08:00")
        return text
    return json_or_text(text)


def json_or_text(text: str) -> Any:
    """Return the value of a JSON text, and any other text as it is."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text


def _refuse_constant(word: str) -> Any:
    # Python's reader accepts NaN and Infinity, which are not JSON and which no server stores.
    raise ValueError(word)


def _converted(convert: Any, text: str, wanted: str) -> Any:
    try:
        return convert(text)
    except (ValueError, OverflowError):
        raise ValueError(f"it takes {wanted}") from None


def _number(text: str) -> float | int:
    value: float = _converted(float, text, "a number, such as 0.5")
    if not is_short_scalar(value):
        raise ValueError("it takes a finite number, such as 0.5")
    return int(text) if re.fullmatch(r"[+-]?\d{1,15}", text) else value


def _choice(choices: Iterable[Any], text: str) -> Any:
    for choice in choices:
        if choice_text(choice) == text:
            return choice
    raise ValueError(f"it takes one of {', '.join(map(choice_text, choices))}")
