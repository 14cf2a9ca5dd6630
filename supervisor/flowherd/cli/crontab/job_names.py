"""A name for a job: that of the program or script which it runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Sequence
from pathlib import PurePath

#: Commands that prepare something, after which the job itself comes.
_BEFORE = frozenset(("cd", "test", "[", "[[", "true", ":", ".", "source", "export", "umask", "ulimit", "sleep", "set"))
#: Programs that run the program which follows.
_AROUND = frozenset(
    ("sudo", "nice", "ionice", "nohup", "env", "time", "timeout", "flock", "chronic", "exec", "command", "setsid", "{")
)
_INTERPRETERS = re.compile(r"(ba|da|z|k)?sh|python[\d.]*|perl|php[\d.]*|ruby|node|java")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_ENDINGS = re.compile(r"\.(sh|bash|py|pl|php|rb|js|jar)$")
_BETWEEN = frozenset(("&&", "||", ";", "|", "&", "(", ")"))
_LONGEST = 60


def job_name(command: str, taken: Collection[str]) -> str:
    """Return a name of letters, digits, dashes and underscores that is not taken."""
    parts = (_name_of(words) for words in _parts(command))
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", next(filter(None, parts), "")).strip("-")[:_LONGEST] or "job"
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    return found


def _parts(command: str) -> Iterator[list[str]]:
    """Return the words of each command of a line for the shell."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # a quote that is not closed
        words = command.split()
    part: list[str] = []
    for word in words:
        if word in _BETWEEN:
            yield part
            part = []
        else:
            part.append(word)
    yield part


def _name_of(words: Sequence[str]) -> str | None:
    """Return the name of what a command runs; None if it only prepares something."""
    words = [word for word in words if not _ASSIGNMENT.fullmatch(word)]
    if not words or PurePath(words[0]).name in _BEFORE:
        return None
    program = PurePath(words[0]).name
    if program in _AROUND:
        return _name_of(_without_options(words[1:])) or program.strip("{") or None
    if _INTERPRETERS.fullmatch(program):
        module = words[words.index("-m") + 1] if "-m" in words[:-1] else None
        script = module or next((word for word in words[1:] if not word.startswith("-")), None)
        if script is not None and "-c" not in words and "-e" not in words:
            program = PurePath(script).name
    return _ENDINGS.sub("", program)


def _without_options(words: Sequence[str]) -> Sequence[str]:
    """Return the words from the program on: past options, and past their values as far as these look like values."""
    for place, word in enumerate(words):
        is_value = word.replace(".", "").rstrip("smhd").isdigit() or (place and words[place - 1] in ("-u", "-c", "-g"))
        is_lock = word.endswith((".lock", ".pid")) or word.startswith(("/var/lock", "/run/lock"))
        if not (word.startswith("-") or is_value or is_lock):
            return words[place:]
    return ()
