"""All settings by dotted name, read from the models in settings.py, and the environment variables that set them.

A setting has one dotted name everywhere: "cloud.agent.name" is key name in section [cloud.agent] of a file, and
FLOWHERD__CLOUD__AGENT__NAME in the environment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, TypeGuard, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flowherd.config.settings import RuntimeSection, Settings

#: The prefixes of environment variables, the stronger one first.
PREFIXES = ("FLOWHERD__", "PREFECT__")
#: Separates the parts of a dotted name in an environment variable.
DELIMITER = "__"
#: Suffix of the variable that names a file with a secret instead of holding the secret itself.
FILE_SUFFIX = "_FILE"


#: Headers whose values are no secrets, and too common to be masked.
_OPEN_HEADERS = frozenset({"accept", "accept-language", "host", "user-agent"})


class Shape(Enum):
    """The structure of a setting's value."""

    SCALAR = "scalar"
    LIST = "list"
    MAPPING = "mapping"


@dataclass(frozen=True, kw_only=True)
class SettingInfo:
    """One setting."""

    dotted: str
    shape: Shape
    #: The type of a scalar, without None: str, int, float, bool. str for lists and mappings.
    kind: type
    #: The allowed values, if there are only a few.
    choices: tuple[str, ...]
    #: The bounds of a number and the like: annotated_types' constraints.
    bounds: tuple[Any, ...]
    #: Whether None is a valid value.
    optional: bool
    #: Whether the value is a secret: it is never shown, and it can be given as a file.
    secret: bool
    #: Whether the value is a mapping whose values are never shown.
    masked: bool
    default: Any
    #: What it means, as a sentence; with its unit.
    description: str

    @property
    def section(self) -> str:
        """The dotted name of its section; empty if it is outside of sections."""
        return self.dotted.rpartition(".")[0]

    def variable(self, prefix: str) -> str:
        """Return the environment variable that sets it."""
        return prefix + self.dotted.upper().replace(".", DELIMITER)


def _setting(dotted: str, field: FieldInfo) -> SettingInfo:
    alternatives = [kind for kind in (field.annotation, *get_args(field.annotation)) if kind is not None]
    origins = {get_origin(kind) or kind for kind in alternatives}
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    return SettingInfo(
        dotted=dotted,
        shape=Shape.LIST if list in origins else Shape.MAPPING if dict in origins else Shape.SCALAR,
        kind=next((kind for kind in (bool, int, float) if kind in origins), str),
        choices=next((get_args(kind) for kind in alternatives if get_origin(kind) is Literal), ()),
        bounds=tuple(field.metadata),
        optional=type(None) in origins,
        secret=bool(extra.get("secret")),
        masked=bool(extra.get("masked")),
        default=field.default,
        description=field.description or "",
    )


def _is_section(kind: Any) -> TypeGuard[type[BaseModel]]:
    # On Python 3.10, list[str] is an instance of type, and pydantic's classes before 2.10 refuse it.
    return get_origin(kind) is None and isinstance(kind, type) and issubclass(kind, BaseModel)


def _settings(model: type[BaseModel], prefix: str = "") -> Iterator[SettingInfo]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if _is_section(kind):
            yield from _settings(kind, f"{prefix}{name}.")
        else:
            yield _setting(prefix + name, field)


def _sections(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    yield prefix.removesuffix("."), model.__doc__ or ""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if _is_section(kind):
            yield from _sections(kind, f"{prefix}{name}.")


#: Every setting by its dotted name, in the order of settings.py.
SETTINGS: dict[str, SettingInfo] = {setting.dotted: setting for setting in _settings(Settings)}
#: What each section is about, by its dotted name; the empty name stands for what is outside of sections.
SECTION_TEXTS: dict[str, str] = dict(_sections(Settings))
#: Every section's dotted name.
SECTIONS = frozenset(name for name in SECTION_TEXTS if name)
#: The keys of an entry of [[runtimes]], and what such an entry is.
RUNTIME_KEYS: dict[str, SettingInfo] = {setting.dotted: setting for setting in _settings(RuntimeSection)}
RUNTIME_TEXT = RuntimeSection.__doc__ or ""


def credentials(settings: Settings) -> list[str]:
    """Return the values of all settings that are secrets, and the passwords within them and within addresses."""
    secrets = [str(value_of(settings, name)) for name, setting in SETTINGS.items() if setting.secret]
    # "NAME:PASSWORD"
    secrets += [secret.partition(":")[2] for secret in secrets]
    addresses = (settings.cloud.api, settings.cloud.graphql, settings.prefect3.api)
    secrets += [urlsplit(address).password or "" for address in addresses]
    for headers in (settings.cloud.custom_headers, settings.prefect3.custom_headers):
        secrets += [value for name, value in headers.items() if name.lower() not in _OPEN_HEADERS]
    return sorted({secret for secret in secrets if secret})


def value_of(settings: Settings, dotted: str) -> Any:
    """Return the value of one setting. Raises AttributeError if there is no such setting."""
    value: Any = settings
    for part in dotted.split("."):
        value = getattr(value, part)
    return value
