"""Reading what people write on a command line: durations, sizes, K=V pairs, times."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError
from flowherd.times import read_time

_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_DURATION = re.compile(rf"{_NUMBER}|(?:{_NUMBER}(?:ms|[smhdw]))+", re.IGNORECASE)
_DURATION_PART = re.compile(rf"({_NUMBER})(ms|[smhdw]?)", re.IGNORECASE)
_SIZE = re.compile(rf"({_NUMBER})\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)


def _wrong(message: str) -> CommandError:
    return CommandError(message, exit_codes.USAGE)


def duration_s(text: str, option: str) -> float:
    """Return the seconds of "90", "1.5h" or "1h30m". Raises CommandError, which names the option."""
    if not _DURATION.fullmatch(text.strip()):
        raise _wrong(f"{option} {text!r} is not a duration; write it as 90, 90s, 10m, 1.5h, 1h30m or 2d")
    return sum(float(number) * _SECONDS[unit.lower()] for number, unit in _DURATION_PART.findall(text))


def size_bytes(text: str, option: str) -> int:
    """Return the bytes of "200M", "1.5GiB" or "4096"; K, M, G, T are powers of 1024. Raises CommandError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or float(match[1]) <= 0:
        raise _wrong(f"{option} {text!r} is not a size; write it as 4096, 200M or 1.5G")
    return int(float(match[1]) * _BYTES[match[2].lower()])


def pairs(items: Iterable[str] | None, option: str) -> dict[str, str]:
    """Return {"K": "V"} for ["K=V"]; the value may contain further equals signs. Raises CommandError."""
    found = {}
    for item in items or ():
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise _wrong(f"{option} {item!r} is not a pair; write it as {option} NAME=VALUE")
        found[name.strip()] = value
    return found


def secret_sources(items: Iterable[str] | None) -> dict[str, str]:
    """Return {"NAME": "file:/PATH"} for ["NAME=file:PATH"], likewise env:VARIABLE; relative paths become absolute ones.

    Reads nothing. Raises CommandError, which does not show what was given: it may be a secret itself.
    """
    return dict(map(_secret_source, items or ()))


def _secret_source(item: str) -> tuple[str, str]:
    name, equals, source = item.partition("=")
    name, (kind, _, place) = name.strip(), source.partition(":")
    if not equals or not name:
        raise _wrong("--secret names a variable and where its value is: NAME=file:PATH or NAME=env:VARIABLE")
    if not place or kind not in ("file", "env"):
        raise _wrong(f"--secret {name}=... names where the secret is: {name}=file:PATH or {name}=env:VARIABLE")
    return name, f"file:{host_path(place, '--secret')}" if kind == "file" else source


def host_path(path: str, option: str) -> str:
    """Return an absolute path; `~` stays for the user that runs the agent. Raises CommandError for an empty one."""
    if not path:
        raise _wrong(f"{option} needs a path, and the one given is empty")
    return path if path.startswith("~") else str(Path(path).absolute())


def parameters(items: Iterable[str] | None, option: str = "-p") -> dict[str, Any]:
    """Return the parameters of ["key=value"]: a value that is JSON is read as such, any other is a string."""
    return {name: _json_or_text(value) for name, value in pairs(items, option).items()}


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except ValueError:
        return text


def _refuse_constant(word: str) -> Any:
    # Python's reader accepts NaN and Infinity, which are not JSON and which no server stores.
    raise ValueError(word)


def moment(text: str, option: str) -> datetime:
    """Return an aware time from ISO 8601 text; without an offset it is this host's local time. Raises CommandError."""
    try:
        return read_time(text, naive="local")
    except ValueError:
        raise _wrong(f"{option} {text!r} is not a time; write it as 2030-01-31T08:00 or 2030-01-31T08:00:00Z") from None


def moment_or_ago(text: str, option: str, now: datetime) -> datetime:
    """Return a time from ISO 8601 text, or that long before `now` for a duration such as "2h". Raises CommandError."""
    if _DURATION.fullmatch(text.strip()):
        try:
            return now - timedelta(seconds=duration_s(text, option))
        except OverflowError:
            raise _wrong(f"{option} {text!r} is longer ago than the calendar goes") from None
    try:
        return read_time(text, naive="local")
    except ValueError:
        raise _wrong(
            f"{option} {text!r} is not a time; write it as 2h (that long ago), 2030-01-31T08:00 or 2030-01-31T08:00:00Z"
        ) from None


def one_of(text: str, option: str, choices: Sequence[str]) -> str:
    """Return the choice that `text` names, in whatever case. Raises CommandError."""
    found = next((choice for choice in choices if choice.lower() == text.strip().lower()), None)
    if found is None:
        raise _wrong(f"{option} {text!r} is none of {', '.join(choices)}")
    return found


def pattern(text: str, option: str) -> re.Pattern[str]:
    """Return a regular expression. Raises CommandError."""
    try:
        return re.compile(text)
    except re.error as error:
        raise _wrong(f"{option} {text!r} is not a regular expression: {error}") from None
