"""The types of parameters: what an annotation says, what is registered, what a form's text becomes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flowherd.client.annotations import type_of_annotation
from flowherd.client.flow_document import python_storage
from flowherd.flow_description import differences
from flowherd.parameter_types import SIGNATURE, Kind, Parameter, form_parameters, read_signature, value_of


@pytest.mark.parametrize(
    ("annotation", "kind", "choices"),
    [
        ("str", Kind.TEXT, []),
        ("int | None", Kind.INTEGER, []),
        ("typing.Optional[datetime.date]", Kind.DATE, []),
        ("typing.Union[int, NoneType]", Kind.INTEGER, []),
        ("Union[int, float]", Kind.NUMBER, []),
        ("'dt.datetime'", Kind.TIME, []),
        ("Annotated[bool, 'x']", Kind.BOOLEAN, []),
        ("typing.Literal['a', 'b', None]", Kind.CHOICE, ["a", "b"]),
        ("Optional[Literal[1, 2]]", Kind.CHOICE, [1, 2]),
        ("Literal[THIS]", Kind.ANY, []),
        ("int | str", Kind.ANY, []),
        ("list[int]", Kind.ANY, []),
        ("own.Type", Kind.ANY, []),
        ("<enum 'X'>", Kind.ANY, []),
        ("", Kind.ANY, []),
        ("(" * 5000, Kind.ANY, []),
        ("x" * 20_000, Kind.ANY, []),
    ],
)
def test_an_annotation_names_a_type_or_any(annotation: str, kind: Kind, choices: list[Any]) -> None:
    assert type_of_annotation(annotation) == (kind, choices if kind is Kind.CHOICE else ())


SOURCE = """
def main(p, /, region: str, day: date = None, *, rows: int = 50_000, mode: "Literal['a', 'b']" = "a", since=now(),
         **more): ...
"""


def test_a_registered_file_says_types_and_defaults_of_its_function(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(SOURCE)
    storage = python_storage("own.py:main", tmp_path)
    assert storage[SIGNATURE] == [
        {"name": "region", "type": "text", "required": True},
        {"name": "day", "type": "date", "default": None},
        {"name": "rows", "type": "integer", "default": 50_000},
        {"name": "mode", "type": "choice", "choices": ["a", "b"], "default": "a"},
        {"name": "since", "type": "any"},
    ]
    assert [one.as_json() for one in read_signature(json.loads(json.dumps(storage)))] == storage[SIGNATURE]
    # A flow that was registered without them is not changed by that, one whose types have changed is.
    assert differences({"storage": {**storage, SIGNATURE: None}}, {"storage": storage}) == []
    (tmp_path / "own.py").write_text(SOURCE.replace("50_000", "60_000"))
    assert len(differences({"storage": storage}, {"storage": python_storage("own.py:main", tmp_path)})) == 1


@pytest.mark.parametrize("broken", [None, 1, {}, [1, {}, {"name": 1}], [{"name": "a", "type": "choice", "choices": 1}]])
def test_a_signature_that_cannot_be_read_is_left_out(broken: object) -> None:
    assert [one.kind for one in read_signature({SIGNATURE: broken})] in ([], [Kind.ANY])


def test_a_form_knows_types_from_the_signature_from_defaults_and_from_a_commands_arguments() -> None:
    storage = {"type": "Python", "parameters": ["a", "b"], SIGNATURE: [{"name": "a", "type": "text", "required": True}]}
    rows: list[dict[str, Any]] = [
        {"name": "b", "default": 0.5},
        {"name": "at", "type": "prefect.core.parameter.DateTimeParameter"},
    ]
    found = form_parameters(storage, rows, {"a": "eu"})
    assert [(one.name, one.kind, one.required, one.default) for one in found] == [
        ("a", Kind.TEXT, False, "eu"),
        ("b", Kind.NUMBER, False, 0.5),
        ("at", Kind.TIME, False, None),
    ]
    command = form_parameters({"type": "Command", "argv": ["x", "{day}", "{n}"]}, [{"name": "n", "default": 3}], {})
    assert [(one.name, one.kind, one.required) for one in command] == [
        ("day", Kind.TEXT, False),
        ("n", Kind.INTEGER, False),
    ]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Kind.TEXT, " 007", " 007"),
        (Kind.INTEGER, " 7 ", 7),
        (Kind.NUMBER, "1e3", 1000.0),
        (Kind.NUMBER, "4", 4),
        (Kind.BOOLEAN, "false", False),
        (Kind.DATE, "2030-01-31", "2030-01-31"),
        (Kind.TIME, "2030-01-31T08:00Z", "2030-01-31T08:00Z"),
        (Kind.CHOICE, "2", 2),
        (Kind.ANY, '{"a": [1]}', {"a": [1]}),
        (Kind.ANY, "NaN", "NaN"),
    ],
)
def test_the_text_of_a_field_becomes_a_value_of_its_type(kind: Kind, text: str, value: object) -> None:
    got = value_of(Parameter(name="p", kind=kind, choices=[1, 2]), text)
    assert (got, type(got)) == (value, type(value))


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        (Kind.INTEGER, "7.5", "a whole number"),
        (Kind.INTEGER, "9" * 5000, "a whole number"),
        (Kind.NUMBER, "inf", "a finite number"),
        (Kind.BOOLEAN, "maybe", "one of true, false"),
        (Kind.DATE, "31.1.2030", "2030-01-31"),
        (Kind.TIME, "soon", "2030-01-31T08:00"),
        (Kind.CHOICE, "3", "one of 1, 2"),
    ],
)
def test_a_text_that_is_none_of_its_type_is_refused_with_what_it_takes(kind: Kind, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        value_of(Parameter(name="p", kind=kind, choices=[1, 2]), text)
