"""Checks the values of a section and converts them: what files and variables say becomes the types of settings.py.

A text becomes a number or a boolean where one belongs, as every variable is text. Nothing else is converted between
texts, numbers and lists.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from flowherd.config.sections import REQUIRED, Section, SectionField, SettingType, fields_of, is_section

S = TypeVar("S", bound=Section)

#: What a boolean may be written as, in any case.
_BOOLEANS = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True),
    **dict.fromkeys(("0", "false", "f", "no", "n", "off"), False),
}
#: A whole number, also one that is written with a fraction of zeros.
_WHOLE = re.compile(r"\s*([+-]?\d+(?:_\d+)*)(?:\.0+)?\s*", re.ASCII)
_BOUND_TEXTS = {
    "gt": "it should be greater than {}",
    "ge": "it should be greater than or equal to {}",
    "le": "it should be less than or equal to {}",
}


class Problem(Exception):
    """A value cannot be used; `path` is where it is in the section, and the text says what is allowed."""

    def __init__(self, allowed: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(allowed)
        self.allowed = allowed
        self.path = path


class Problems(Exception):
    """All problems of a section."""

    def __init__(self, found: list[Problem]) -> None:
        super().__init__("; ".join(problem.allowed for problem in found))
        self.found = found


def checked(section: type[S], given: Mapping[str, Any]) -> S:
    """Return the section with these values and the defaults of the others. Raises Problems.

    Unknown names are ignored, except in a section with `refuses_unknown`.
    """
    values, problems = {}, []
    for name, field in fields_of(section).items():
        try:
            if name in given:
                values[name] = _value(field, given[name])
            elif field.text.default is REQUIRED:
                raise Problem("Field required")
        except Problems as error:
            problems += [Problem(problem.allowed, (name, *problem.path)) for problem in error.found]
        except Problem as error:
            problems.append(Problem(error.allowed, (name, *error.path)))
    if section.refuses_unknown:
        unknown = given.keys() - fields_of(section).keys()
        problems += [Problem("Extra inputs are not permitted", (name,)) for name in sorted(unknown)]
    if problems:
        raise Problems(problems)
    return section(**values)


def _value(field: SectionField, value: Any) -> Any:
    value = _of_type(field.type, value)
    if value is not None:
        for name, bound in field.bounds.items():
            _check_bound(name, bound, value)
    return value


def _check_bound(name: str, bound: float, value: Any) -> None:
    if name == "min_length":
        if len(value) < bound:
            raise Problem(f"String should have at least {bound} character{'' if bound == 1 else 's'}")
    elif not {"gt": value > bound, "ge": value >= bound, "le": value <= bound}[name]:
        raise Problem(_BOUND_TEXTS[name].format(bound))


def _of_type(wanted: SettingType, value: Any) -> Any:
    if value is None and wanted.optional:
        return None
    if wanted.choices:
        if value not in wanted.choices:
            *others, last = map(repr, wanted.choices)
            raise Problem(f"it should be {', '.join(others)} or {last}")
    elif is_section(wanted.kind):
        value = _section(wanted.kind, value)
    else:
        value = _CONVERTERS[wanted.kind](wanted, value)
    for check in wanted.checks:
        try:
            value = check(value)
        except ValueError as error:
            raise Problem(str(error)) from None
    return value


def _section(kind: type[Section], value: Any) -> Section:
    try:
        value = kind.read(value)
    except ValueError as error:
        raise Problem(str(error)) from None
    if not isinstance(value, Mapping):
        raise Problem(f"it should be a valid dictionary or instance of {kind.__name__}")
    return checked(kind, value)


def _text(_: SettingType, value: Any) -> str:
    if not isinstance(value, str):
        raise Problem("it should be a valid string")
    return str(value)


def _whole_number(_: SettingType, value: Any) -> int:
    if isinstance(value, str):
        match = _WHOLE.fullmatch(value)
        if match is None:
            raise Problem("it should be a valid integer, unable to parse string as an integer")
        return int(match[1])
    if isinstance(value, float):
        if value in (float("inf"), float("-inf")) or value != value:
            raise Problem("it should be a finite number")
        if not value.is_integer():
            raise Problem("it should be a valid integer, got a number with a fractional part")
    elif not isinstance(value, int):
        raise Problem("it should be a valid integer")
    return int(value)


def _number(_: SettingType, value: Any) -> float:
    if isinstance(value, str):
        try:
            return float(value if value.isascii() else "")
        except ValueError:
            raise Problem("it should be a valid number, unable to parse string as a number") from None
    if not isinstance(value, int | float):
        raise Problem("it should be a valid number")
    return float(value)


def _boolean(_: SettingType, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    found = None
    if isinstance(value, str):
        found = _BOOLEANS.get(value.lower())
    elif isinstance(value, int | float) and value == value // 1:
        found = {0.0: False, 1.0: True}.get(value)
    else:
        raise Problem("it should be a valid boolean")
    if found is None:
        raise Problem("it should be a valid boolean, unable to interpret input")
    return found


def _list(wanted: SettingType, value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise Problem("it should be a valid list")
    assert wanted.item is not None
    return list(_each(wanted.item, dict(enumerate(value))).values())


def _mapping(wanted: SettingType, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise Problem("it should be a valid dictionary")
    assert wanted.item is not None
    return _each(wanted.item, value)


def _each(wanted: SettingType, values: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return all values converted. Raises Problems with those of all that cannot be used."""
    found, problems = {}, []
    for key, value in values.items():
        try:
            found[key] = _of_type(wanted, value)
        except Problems as error:
            problems += [Problem(problem.allowed, (str(key), *problem.path)) for problem in error.found]
        except Problem as error:
            problems.append(Problem(error.allowed, (str(key), *error.path)))
    if problems:
        raise Problems(problems)
    return found


_CONVERTERS = {
    str: _text,
    int: _whole_number,
    float: _number,
    bool: _boolean,
    list: _list,
    dict: _mapping,
}
