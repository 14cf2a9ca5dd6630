"""Reads crontab(5), as the crons of Debian (Vixie) and of cronie do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

#: NAME = VALUE with optional quotes around either; a name without quotes has no blanks.
_SETTING = re.compile(r"""\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^\s="']+))\s*=(?P<value>.*)""")
_FIELDS = 5


@dataclass(frozen=True, kw_only=True)
class CrontabJob:
    """One job of a crontab."""

    number: int
    #: The line as it is written.
    line: str
    #: Five fields, or a word such as @daily.
    schedule: str
    #: None in a crontab that belongs to one user.
    user: str | None
    #: The command for the shell, with \\% replaced.
    command: str
    #: What it reads on standard input; None if nothing is given.
    stdin: str | None
    #: The variables that were set above the line.
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class WrongLine:
    """A line that is neither a job nor a setting nor a comment."""

    number: int
    line: str
    why: str


def crontab_lines(text: str, *, with_users: bool) -> Iterator[CrontabJob | WrongLine]:
    """Return the jobs of a crontab, and the lines that are wrong, in order.

    `with_users` is for /etc/crontab and the files of /etc/cron.d, which have a user before each command.
    """
    settings: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        setting = _SETTING.fullmatch(line)
        if setting is not None:
            name = next(name for name in (setting["double"], setting["single"], setting["bare"]) if name is not None)
            settings[name] = _value(setting["value"])
        else:
            yield _job(number, line, dict(settings), with_users)


def _value(text: str) -> str:
    text = text.strip()
    quoted = len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if quoted else text


def _job(number: int, line: str, settings: Mapping[str, str], with_users: bool) -> CrontabJob | WrongLine:
    # A minus in front keeps cronie from logging the job.
    written = line[1:] if line.startswith("-") else line
    fields = 1 if written.startswith("@") else _FIELDS
    words = written.split(None, fields + with_users)
    if len(words) <= fields + with_users:
        parts = "a time, a user and a command" if with_users else "a time and a command"
        return WrongLine(number=number, line=line, why=f"it is neither {parts} nor NAME=VALUE")
    command, stdin = _command_and_input(words[-1])
    return CrontabJob(
        number=number,
        line=line,
        schedule=" ".join(words[:fields]),
        user=words[fields] if with_users else None,
        command=command,
        stdin=stdin,
        settings=settings,
    )


def _command_and_input(text: str) -> tuple[str, str | None]:
    """Split at the first % that is not escaped; further ones are newlines of the input, which ends with one."""
    command, *rest = (part.replace("\\%", "%") for part in re.split(r"(?<!\\)%", text))
    if not rest:
        return command, None
    stdin = "\n".join(rest)
    return command, stdin if stdin.endswith("\n") else stdin + "\n"
