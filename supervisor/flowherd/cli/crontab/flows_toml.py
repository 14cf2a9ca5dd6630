"""Writes the flows of a crontab as the text of a project file, flows.toml."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flowherd.cli.crontab.convert import Entry
from flowherd.shown_text import one_line

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_WIDTH = 98


def flows_toml(entries: Sequence[Entry], origin: str, project: str, agent_user: str) -> str:
    """Return the file. `origin` says where the lines come from, `agent_user` who runs what names no user."""
    mailed = ", ".join(dict.fromkeys(entry.mail_to for entry in entries if entry.mail_to))
    differences = [
        f"The output of a job goes to the run's log, and no mail is sent{f' to {mailed}' if mailed else ''}.",
        "A job also has the variables of the agent; PATH and SHELL are those of cron.",
        f"A flow without `user` runs as the user of the agent; its job runs as {agent_user}.",
    ]
    lines = [f"# Made from {one_line(origin)} by `flowherd import crontab`.", "#", "# What differs from cron:"]
    for text in differences:
        lines += _comment(f"- {one_line(text)}", "  ")
    lines += ["", f"project = {_string(project)}"]
    for entry in entries:
        lines += ["", *_entry(entry)]
    return "\n".join(lines) + "\n"


def _entry(entry: Entry) -> Iterator[str]:
    yield f"# line {entry.number}: {one_line(entry.line)}"
    word = "differs" if entry.name is not None else "not taken over"
    for note in entry.notes:
        yield from _comment(f"{word}: {one_line(note)}", "  ")
    if entry.name is not None:
        yield f"[flows.{_key(entry.name)}]"
        for key, value in entry.keys.items():
            yield f"{_key(key)} = {_value(value)}"


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent="# ",
        subsequent_indent=f"# {indent}",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(name)} = {_string(text)}" for name, text in value.items()) + " }"
    return "[" + ", ".join(map(_string, value)) + "]" if isinstance(value, list) else _string(value)


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _string(name)


def _string(text: str) -> str:
    # JSON's escapes are also those of TOML's basic strings, which do not allow DEL as it is (toml.io, v1.0.0).
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
