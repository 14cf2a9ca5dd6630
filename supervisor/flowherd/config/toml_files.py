"""Reads configuration files: TOML into dotted names, and the lines of keys for messages.

Knows the names of the settings, but not their types.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flowherd.config.catalogue import SECTIONS, SETTINGS
from flowherd.errors import ConfigurationError

#: The header of a section, or of an entry of a list of sections; an assignment.
_HEADER = re.compile(r"\s*\[\[?([^\[\]]+)\]")
_ASSIGNMENT = re.compile(r"\s*([\w.\-\"' ]+?)\s*=")


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
    toml = _reader()
    try:
        data: dict[str, Any] = toml.loads(text)
    except toml.TOMLDecodeError as error:
        raise ConfigurationError(f"the configuration file {path} is not TOML: {error}") from error
    return data


def _reader() -> Any:
    """Import the reader, which is needed only if there is a file. Python 3.10 has none; tomli is the same code."""
    return importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")


def known_values(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in `data` by dotted name, without keys that are not settings."""
    return {dotted: value for dotted, value in flattened(data) if dotted in SETTINGS}


def refuse_unknown(data: Mapping[str, Any], path: Path) -> None:
    """Raise ConfigurationError if the file has a key that is not a setting; the message suggests a similar one."""
    for dotted, value in flattened(data):
        if dotted in SECTIONS and not isinstance(value, dict):
            raise ConfigurationError(f"{place_of(path, dotted)}: {dotted} is a section, [{dotted}], not a value")
        if dotted not in SETTINGS and dotted not in SECTIONS:
            hint = suggestion(dotted, [*SETTINGS])
            raise ConfigurationError(f"{place_of(path, dotted)}: there is no setting {dotted}{hint}")


def suggestion(wrong: str, known: list[str]) -> str:
    """Return "; did you mean ...?" if a known name is similar, else an empty text."""
    from difflib import get_close_matches

    close = get_close_matches(wrong, known, n=1, cutoff=0.6) or [
        name for name in known if name.endswith("." + wrong.rpartition(".")[2])
    ]
    return f"; did you mean {close[0]}?" if close else ""


def line_of(path: Path, dotted: str) -> int | None:
    """Return the number of the line of a TOML file that sets a key, or begins its section; None if it is not found."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    section = ""
    for number, line in enumerate(lines, start=1):
        header, assignment = _HEADER.match(line), _ASSIGNMENT.match(line)
        if header:
            section = found = _plain(header[1])
        elif assignment:
            found = ".".join(filter(None, (section, _plain(assignment[1]))))
        else:
            continue
        is_above = assignment is not None and dotted.startswith(f"{found}.")  # pairs on one line
        if found == dotted or is_above or found.startswith(f"{dotted}."):
            return number
    return None


def place_of(path: Path, dotted: str) -> str:
    """Return the file and the line of a key, as they are written in messages."""
    line = line_of(path, dotted)
    return str(path) if line is None else f"{path}, line {line}"


def _plain(key: str) -> str:
    """Return a key of TOML without blanks and quotes around its parts."""
    return ".".join(part.strip().strip("\"'") for part in key.split("."))


def flattened(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Return all values by dotted name; the pairs of a setting that is a mapping stay together."""
    for key, value in data.items():
        dotted = prefix + key
        if isinstance(value, Mapping) and value and dotted not in SETTINGS:
            yield from flattened(value, dotted + ".")
        else:
            yield dotted, value
