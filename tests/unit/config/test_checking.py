"""What a text or a value becomes where a setting of each type belongs, and what is said of one that cannot be used."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest

from flowherd.config.checking import Problems, checked
from flowherd.config.sections import Check, Field, Section


def _upper(text: str) -> str:
    if not text.isalpha():
        raise ValueError("only letters")
    return text.upper()


class Inner(Section):
    """A section within."""

    refuses_unknown = True
    must: int = Field(gt=0)


class Sample(Section):
    """A section."""

    text: str = Field(default="a", min_length=1)
    whole: int | None = Field(default=None, ge=1, le=9)
    number: float = Field(default=1.0, gt=0)
    flag: bool = False
    chosen: Literal["a", "b", "c"] = "a"
    names: list[str] = Field(default=[])
    pairs: dict[str, Annotated[str, Check(_upper)]] = Field(default={})
    inner: list[Inner] = Field(default=[])


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("whole", " +0_7.00 ", 7),
        ("whole", 5.0, 5),
        ("whole", None, None),
        ("number", "1e3", 1000.0),
        ("number", 5, 5.0),
        ("flag", "On", True),
        ("flag", 0, False),
        ("names", ("x",), ["x"]),
        ("pairs", {"n": "v"}, {"n": "V"}),
        ("inner", [{"must": "1"}], [Inner(must=1)]),
    ],
)
def test_what_a_value_becomes(name: str, given: object, value: object) -> None:
    found = getattr(checked(Sample, {name: given, "unknown": 1}), name)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("text", 5, "it should be a valid string"),
        ("text", "", "String should have at least 1 character"),
        ("whole", "5.", "it should be a valid integer, unable to parse string as an integer"),
        ("whole", 5.5, "it should be a valid integer, got a number with a fractional part"),
        ("whole", "10", "it should be less than or equal to 9"),
        ("number", "0", "it should be greater than 0"),
        ("number", "\u0665", "it should be a valid number, unable to parse string as a number"),
        ("number", "nan", "it should be greater than 0"),
        ("flag", "maybe", "it should be a valid boolean, unable to interpret input"),
        ("flag", 5.5, "it should be a valid boolean"),
        ("chosen", "d", "it should be 'a', 'b' or 'c'"),
        ("names", "x", "it should be a valid list"),
        ("names", ["x", 1], "it should be a valid string"),
        ("pairs", {"n": "1"}, "only letters"),
        ("inner", [{}], "Field required"),
        ("inner", [{"must": 1, "more": 1}], "Extra inputs are not permitted"),
    ],
)
def test_what_is_said_of_a_value(name: str, given: object, said: str) -> None:
    with pytest.raises(Problems) as caught:
        checked(Sample, {name: given})
    (problem,) = caught.value.found
    assert problem.allowed == said and problem.path[0] == name


def test_a_section_is_a_frozen_value_with_defaults_of_its_own() -> None:
    first, second = Sample(), Sample()
    assert first == second and first.names is not second.names
    assert first.values(without_defaults=True) == {}
    with pytest.raises(AttributeError):
        first.text = "b"  # type: ignore[misc]
    unknown: dict[str, Any] = {"nothing": 1}
    with pytest.raises(TypeError):
        Sample(**unknown)
