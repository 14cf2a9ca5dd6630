"""Reads configuration files: TOML into dotted names, and the ${a.b} references of Prefect's file.

Knows the names of the settings, but not their types.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from flowherd.config.catalogue import SECTIONS, SETTINGS
from flowherd.errors import ConfigurationError

# Python 3.10 has no TOML reader; tomli is the same code.
_toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

_REFERENCE = re.compile(r"\$\{([^}]*)\}")
#: Maximum depth of references to references; more is taken for a circle.
_MAX_DEPTH = 10


class _Unresolvable(Exception):
    pass


def read_toml(path: Path) -> dict[str, Any] | None:
    """Return the contents of a TOML file; None if there is no such file.

    Raises ConfigurationError, with file and line, if it cannot be read or is not TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the configuration file {path} cannot be read: {error}") from error
    try:
        data: dict[str, Any] = _toml.loads(text)
    except _toml.TOMLDecodeError as error:
        raise ConfigurationError(f"the configuration file {path} is not TOML: {error}") from error
    return data


def known_values(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in `data` by dotted name, without keys that are not settings."""
    return {dotted: value for dotted, value in _flattened(data) if dotted in SETTINGS}


def refuse_unknown(data: Mapping[str, Any], path: Path) -> None:
    """Raise ConfigurationError if the file has a key that is not a setting; the message suggests a similar one."""
    for dotted, value in _flattened(data):
        if dotted in SECTIONS and not isinstance(value, dict):
            raise ConfigurationError(f"{path}: {dotted} is a section, [{dotted}], not a value")
        if dotted not in SETTINGS and dotted not in SECTIONS:
            raise ConfigurationError(f"{path}: there is no setting {dotted}{suggestion(dotted, [*SETTINGS])}")


def suggestion(wrong: str, known: list[str]) -> str:
    """Return "; did you mean ...?" if a known name is similar, else an empty text."""
    close = get_close_matches(wrong, known, n=1, cutoff=0.6) or [
        name for name in known if name.endswith("." + wrong.rpartition(".")[2])
    ]
    return f"; did you mean {close[0]}?" if close else ""


def resolve_references(
    values: Mapping[str, Any], data: Mapping[str, Any], environ: Mapping[str, str]
) -> dict[str, Any]:
    """Return `values` with ${a.b} and ${VARIABLE} replaced; a value that cannot be resolved is left out.

    Prefect also resolves references against its own defaults. These are not known here, so such a value counts as not
    set.
    """
    resolved = {}
    for dotted, value in values.items():
        try:
            resolved[dotted] = _resolve(value, data, environ, _MAX_DEPTH)
        except _Unresolvable:
            continue
    return resolved


def _resolve(value: Any, data: Mapping[str, Any], environ: Mapping[str, str], depth: int) -> Any:
    if not isinstance(value, str) or "${" not in value:
        return value
    if depth == 0:
        raise _Unresolvable
    whole = _REFERENCE.fullmatch(value)
    if whole:
        return _resolve(_referred(whole[1], data, environ), data, environ, depth - 1)
    return _REFERENCE.sub(lambda match: str(_resolve(match[0], data, environ, depth - 1)), value)


def _referred(name: str, data: Mapping[str, Any], environ: Mapping[str, str]) -> Any:
    value: Any = data
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            value = environ.get(name)
            break
        value = value[part]
    if value is None or isinstance(value, Mapping):
        raise _Unresolvable
    return value


def _flattened(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        dotted = prefix + key
        if isinstance(value, Mapping) and value and dotted not in SETTINGS:
            yield from _flattened(value, dotted + ".")
        else:
            yield dotted, value
