"""All settings by dotted name, read from the models in settings.py, and the environment variables that set them.

A setting has one dotted name everywhere: "cloud.agent.name" is key name in section [cloud.agent] of a file, and
FLOWHERD__CLOUD__AGENT__NAME in the environment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from flowherd.config.notify_settings import NotifyChannel, NotifyRule
from flowherd.config.sections import Section, SectionField, fields_of, is_section
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
    #: The type of a scalar, without None, or of a mapping's values: str, int, float, bool. str for lists.
    kind: type
    #: The allowed values, if there are only a few.
    choices: tuple[str, ...]
    #: The bounds of a number or of a text's length, by their names in `Field`: gt, ge, le, min_length.
    bounds: Mapping[str, float]
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


_SHAPES: dict[type, Shape] = {list: Shape.LIST, dict: Shape.MAPPING}


def _setting(dotted: str, field: SectionField) -> SettingInfo:
    kind, text = field.type.kind, field.text
    values = field.type.item.kind if kind is dict and field.type.item is not None else kind
    return SettingInfo(
        dotted=dotted,
        shape=_SHAPES.get(kind, Shape.SCALAR),
        kind=values if values in (bool, int, float) else str,
        choices=field.type.choices,
        bounds=field.bounds,
        optional=field.type.optional,
        secret=text.secret,
        masked=text.masked,
        default=text.default,
        description=text.description,
    )


def _settings(section: type[Section], prefix: str = "") -> Iterator[SettingInfo]:
    for name, field in fields_of(section).items():
        if is_section(field.type.kind):
            yield from _settings(field.type.kind, f"{prefix}{name}.")
        else:
            yield _setting(prefix + name, field)


def _sections(section: type[Section], prefix: str = "") -> Iterator[tuple[str, str]]:
    yield prefix.removesuffix("."), section.__doc__ or ""
    for name, field in fields_of(section).items():
        if is_section(field.type.kind):
            yield from _sections(field.type.kind, f"{prefix}{name}.")


#: Every setting by its dotted name, in the order of settings.py.
SETTINGS: dict[str, SettingInfo] = {setting.dotted: setting for setting in _settings(Settings)}
#: What each section is about, by its dotted name; the empty name stands for what is outside of sections.
SECTION_TEXTS: dict[str, str] = dict(_sections(Settings))
#: Every section's dotted name.
SECTIONS = frozenset(name for name in SECTION_TEXTS if name)
#: The keys of an entry of [[runtimes]], and what such an entry is.
RUNTIME_KEYS: dict[str, SettingInfo] = {setting.dotted: setting for setting in _settings(RuntimeSection)}
RUNTIME_TEXT = RuntimeSection.__doc__ or ""
#: The keys of the other lists of sections, and what such a section is, by the list's dotted name.
LISTED: dict[str, tuple[dict[str, SettingInfo], str]] = {
    dotted: ({setting.dotted: setting for setting in _settings(section)}, section.__doc__ or "")
    for dotted, section in (("notify.channels", NotifyChannel), ("notify.rules", NotifyRule))
}


def credentials(settings: Settings) -> list[str]:
    """Return the values of all settings that are secrets, and the passwords within them and within addresses."""
    secrets = [str(value_of(settings, name)) for name, setting in SETTINGS.items() if setting.secret]
    # "NAME:PASSWORD"
    secrets += [secret.partition(":")[2] for secret in secrets]
    addresses = (settings.cloud.api, settings.cloud.graphql, settings.prefect3.api)
    secrets += [urlsplit(address).password or "" for address in addresses]
    for headers in (settings.cloud.custom_headers, settings.prefect3.custom_headers):
        secrets += [value for name, value in headers.items() if name.lower() not in _OPEN_HEADERS]
    places = [place for channel in settings.notify.channels for place in (channel.webhook, channel.apprise)]
    secrets += [place for place in places if not place.startswith(("file:", "env:"))]
    return sorted({secret for secret in secrets if secret})


def value_of(settings: Settings, dotted: str) -> Any:
    """Return the value of one setting. Raises AttributeError if there is no such setting."""
    value: Any = settings
    for part in dotted.split("."):
        value = getattr(value, part)
    return value
