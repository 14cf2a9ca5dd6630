"""Which settings differ between two readings of their sources, and settings that take over some values of others."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from flowherd.config.catalogue import SETTINGS, value_of
from flowherd.config.loading import LoadedSettings
from flowherd.config.origins import Origin, Source
from flowherd.config.sections import Section
from flowherd.config.settings import Settings

#: How `flowherd config` calls a setting that no source sets.
_DEFAULT = Origin(source=Source.DEFAULT)


def changed_settings(before: Settings, after: Settings) -> list[str]:
    """Return the dotted names of the settings whose values differ, in the order of the catalogue."""
    return [dotted for dotted in SETTINGS if value_of(before, dotted) != value_of(after, dotted)]


def taking_over(loaded: LoadedSettings, later: LoadedSettings, names: Collection[str]) -> LoadedSettings:
    """Return `loaded` with the values that the settings `names` have in `later`, and with their origins."""
    origins = {**loaded.origins, **{name: later.origins.get(name, _DEFAULT) for name in names}}
    return replace(loaded, settings=_merged(loaded.settings, later.settings, names, ""), origins=origins)


def _merged(section: Any, later: Any, names: Collection[str], prefix: str) -> Any:
    values: dict[str, Any] = {}
    for name, value in section.values().items():
        other, dotted = getattr(later, name), prefix + name
        if isinstance(value, Section):
            values[name] = _merged(value, other, names, f"{dotted}.")
        else:
            values[name] = other if dotted in names else value
    return type(section)(**values)
