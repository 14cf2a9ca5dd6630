"""How a section of settings is declared: a frozen class whose annotations are its settings.

    class Server(Section):
        bind_port: int = Field(default=4200, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")

An instance is made from values of the right types; checking.py makes them from what files and variables say. This is
done here and not by a library, because a client command would spend most of its time on importing one.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Literal,
    TypeGuard,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:  # only type checkers read it

    def dataclass_transform(**_: Any) -> Callable[[Any], Any]:
        return lambda decorated: decorated


T = TypeVar("T")

#: In place of the default of a setting that must be given.
REQUIRED: Final = object()


@dataclass(frozen=True)
class FieldText:
    """What `Field` says of a setting."""

    default: Any = REQUIRED
    description: str = ""
    gt: float | None = None
    ge: float | None = None
    le: float | None = None
    min_length: int | None = None
    #: Whether the value is part of the section's repr.
    repr: bool = True
    #: Whether the value is a secret, or has values that are never shown.
    secret: bool = False
    masked: bool = False


def Field(**said: Any) -> Any:
    """Declare a setting: its default, its bounds (gt, ge, le, min_length) and its meaning."""
    return FieldText(**said)


@dataclass(frozen=True)
class Check:
    """In an annotation: a function that takes a value of the type and returns the one to use, or raises ValueError."""

    function: Callable[[Any], Any]


@dataclass(frozen=True)
class SettingType:
    """The type of a setting, taken apart."""

    #: str, int, float, bool, list, dict, or a Section.
    kind: type
    #: Whether None is a value too.
    optional: bool = False
    #: The allowed texts, if there are only a few.
    choices: tuple[str, ...] = ()
    #: The type of a list's items, or of a mapping's values.
    item: SettingType | None = None
    checks: tuple[Callable[[Any], Any], ...] = ()


@dataclass(frozen=True)
class SectionField:
    """One setting of a section."""

    type: SettingType
    text: FieldText

    @property
    def bounds(self) -> Mapping[str, float]:
        """The bounds that are set, by their names in `Field`."""
        every = {name: getattr(self.text, name) for name in ("gt", "ge", "le", "min_length")}
        return {name: bound for name, bound in every.items() if bound is not None}


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(Field,))
class Section:
    """A section of settings. Its instances are frozen and equal if their values are."""

    #: Whether a name that is no setting is an error. Prefect's file has many that do not concern an agent.
    refuses_unknown = False

    @classmethod
    def read(cls, value: Any) -> Any:
        """Return the mapping that a value in another form stands for. Raises ValueError."""
        return value

    def __init__(self, **values: Any) -> None:
        for name, field in fields_of(type(self)).items():
            if name in values:
                value = values.pop(name)
            elif field.text.default is REQUIRED:
                raise TypeError(f"{type(self).__name__} needs {name}")
            else:
                default = field.text.default
                value = default.copy() if isinstance(default, list | dict) else default
            self.__dict__[name] = value
        if values:
            raise TypeError(f"{type(self).__name__} has no {', '.join(sorted(values))}")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"settings are frozen: {name}")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__dict__ == self.__dict__

    def __hash__(self) -> int:
        raise TypeError(f"unhashable: {type(self).__name__}")

    def __repr__(self) -> str:
        shown = (f"{name}={self.__dict__[name]!r}" for name, field in fields_of(type(self)).items() if field.text.repr)
        return f"{type(self).__name__}({', '.join(shown)})"

    def values(self, *, without_defaults: bool = False) -> dict[str, Any]:
        """Return the values by name; sections within it stay what they are."""
        fields = fields_of(type(self))
        return {
            name: value
            for name, value in self.__dict__.items()
            if not (without_defaults and value == fields[name].text.default)
        }


_FIELDS: dict[type[Section], Mapping[str, SectionField]] = {}


def fields_of(section: type[Section]) -> Mapping[str, SectionField]:
    """Return the settings of a section by name, in the order of its declaration."""
    found = _FIELDS.get(section)
    if found is None:
        hints = get_type_hints(section, include_extras=True)
        found = _FIELDS[section] = {
            name: _field(hint, getattr(section, name, REQUIRED)) for name, hint in hints.items()
        }
    return found


def is_section(kind: Any) -> TypeGuard[type[Section]]:
    """Return whether a type is that of a section."""
    return isinstance(kind, type) and issubclass(kind, Section)


def _field(hint: Any, said: Any) -> SectionField:
    text = said if isinstance(said, FieldText) else FieldText(default=said)
    for extra in get_args(hint)[1:] if get_origin(hint) is Annotated else ():
        if isinstance(extra, FieldText):  # of a type whose values are never shown
            text = FieldText(**{**vars(text), "repr": extra.repr, "secret": extra.secret, "masked": extra.masked})
    return SectionField(_type(hint), text)


def _type(hint: Any) -> SettingType:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        plain = _type(arguments[0])
        checks = tuple(extra.function for extra in arguments[1:] if isinstance(extra, Check))
        return SettingType(plain.kind, plain.optional, plain.choices, plain.item, checks)
    if origin in (Union, types.UnionType):
        (other,) = (_type(argument) for argument in arguments if argument is not type(None))
        return SettingType(other.kind, True, other.choices, other.item, other.checks)
    if origin is Literal:
        return SettingType(str, choices=arguments)
    if origin in (list, dict):
        return SettingType(origin, item=_type(arguments[-1]))
    return SettingType(hint)
