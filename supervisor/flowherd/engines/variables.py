"""Environment variables of a run that come from several places: later ones win, and None removes a variable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowherd.errors import UnsupportedStorage

Variables = Mapping[str, str | None]


def variables_by_name(value: object) -> dict[str, str | None]:
    """Return a mapping from a run config with texts for keys and values; null values become None."""
    if not isinstance(value, Mapping):
        return {}
    return {str(name): None if item is None else str(item) for name, item in value.items()}


def merged(*sources: Variables) -> dict[str, str]:
    """Return the variables that are set once the later sources have replaced those of earlier ones."""
    together: dict[str, str | None] = {}
    for source in sources:
        together.update(source)
    return {name: value for name, value in together.items() if value is not None}


def removed(*sources: Variables) -> tuple[str, ...]:
    """Return the names that the sources remove in the end, sorted: a run does not inherit them either."""
    names = {name for source in sources for name in source}
    return tuple(sorted(names - merged(*sources).keys()))


def defect(variables: Mapping[Any, Any]) -> str | None:
    """Return what is wrong with the first variable that no process can have (execve(2)); None if all are good.

    Values are not shown, because they may be secrets.
    """
    for name, value in variables.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            return f"{name!r:.80} cannot be the name of an environment variable: a text without = and NUL is needed"
        if value is not None and not isinstance(value, str):
            return f"{name} needs a text, or None to remove it, and has a value of type {type(value).__name__}"
        if value is not None and "\0" in value:
            return f"the value of {name} contains a NUL character, which no environment can hold"
    return None


def check_variables(variables: Mapping[Any, Any], source: str) -> None:
    """Raise UnsupportedStorage, which names `source`, if no process can have one of the variables."""
    found = defect(variables)
    if found is not None:
        raise UnsupportedStorage(f"The environment of the flow run cannot be made from {source}: {found}")
