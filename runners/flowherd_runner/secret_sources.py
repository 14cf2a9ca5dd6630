"""Secrets and variables of a run that are read on this host when the run starts, and are nowhere else.

    secrets     {name: "file:PATH"} or {name: "env:VARIABLE"}
    env_files   paths of files with lines NAME=VALUE

The runner reads them, as the agent's user, and outside of what keeps the run apart. Only the flow process gets the
values, in its environment. Messages name files, variables and lines, and never show what is in them.
"""

import os
import re
import stat
from typing import Dict, List, Mapping, NamedTuple, Sequence, Tuple

from flowherd_runner.isolation.mount_table import MountTable, is_inside, read_mount_table
from flowherd_runner.kinds.definition import NotStarted

#: More than an environment can carry (execve(2)).
_MAX_BYTES = 1024 * 1024
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_ESCAPED = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


class Sources(NamedTuple):
    """What was read: variables by name."""

    from_files: Dict[str, str]
    secrets: Dict[str, str]


def read_sources(
    secrets: Mapping[str, str],
    env_files: Sequence[str],
    environment: Mapping[str, str],
    unseen: Sequence[str] = (),
) -> Sources:
    """Read all of them; of two values for one name the later file's counts.

    `environment` is the agent's, without the agent's own credentials. `unseen` are real paths that the run does not
    see. If there are any, all files must be named by real paths, as the agent has planned them: by a link that was put
    there since, or by another mount, the run would have what it does not see, or a descriptor of this process
    (/proc/self/fd). Raises NotStarted, which names what is missing.
    """
    from_files: Dict[str, str] = {}
    for path in env_files:
        from_files.update(_env_file(path, unseen))
    found = {name: _secret(name, source, environment, unseen) for name, source in secrets.items()}
    return Sources(from_files, found)


def _secret(name: str, source: str, environment: Mapping[str, str], unseen: Sequence[str]) -> str:
    kind, _, place = source.partition(":")
    if kind == "env" and place:
        if place not in environment:
            text = "the secret {} is read from the variable {}, which the agent's environment does not have"
            raise NotStarted(text.format(name, place))
        return environment[place]
    if kind == "file" and place:
        text = _text_of(place, "the secret {} cannot be read from the file".format(name), unseen)
        return text[:-2] if text.endswith("\r\n") else text[:-1] if text.endswith("\n") else text
    raise NotStarted("the source of the secret {} is neither file:PATH nor env:VARIABLE".format(name))


def _text_of(path: str, failed: str, unseen: Sequence[str]) -> str:
    """The text of a file that fits into a variable; `failed` is the beginning of the message when there is none."""
    place = os.path.expanduser(path)
    try:
        # Not blocked by a pipe without a writer.
        fd = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            problem = _way_out(fd, place, unseen) if unseen else ""
            regular = stat.S_ISREG(os.fstat(fd).st_mode)
            data = file.read(_MAX_BYTES + 1) if regular else b""
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise NotStarted("{} {}: {}".format(failed, place, reason)) from error
    if problem:
        raise NotStarted("{} {}: {}".format(failed, place, problem))
    if not regular:
        raise NotStarted("{} {}: it is not a regular file".format(failed, place))
    if len(data) > _MAX_BYTES:
        raise NotStarted("{} {}: it is larger than {} bytes".format(failed, place, _MAX_BYTES))
    if b"\0" in data:
        raise NotStarted("{} {}: it contains a NUL, which no variable can".format(failed, place))
    return data.decode("utf-8", "surrogateescape")


def _way_out(fd: int, place: str, unseen: Sequence[str]) -> str:
    """Return why `fd`, opened at `place`, must not be read; empty if it may be. Raises OSError.

    What the agent's own settings name may lie in `unseen`.
    """
    real = os.readlink("/proc/self/fd/{}".format(fd))
    if real not in (place, place + " (deleted)"):  # one that was replaced meanwhile is as good
        return "it leads to {}, by a link that was not there when the run was planned".format(real)
    if is_inside(place, "/proc"):  # of processes that the run does not see
        return "it is in /proc, of which the run has one of its own"
    if any(is_inside(place, hidden) for hidden in unseen):
        return ""
    table = read_mount_table()
    inner = table.inner_place(fd, place)
    for hidden in unseen:
        if inner is not None and _is_within(inner, hidden, table):
            return "it is in {}, which the run does not see".format(hidden)
    return ""


def _is_within(inner: Tuple[str, str], hidden: str, table: MountTable) -> bool:
    try:
        fd = os.open(hidden, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # there is nothing
        return False
    try:
        other = table.inner_place(fd, hidden)
    finally:
        os.close(fd)
    return other is not None and other[0] == inner[0] and is_inside(inner[1], other[1])


def _env_file(path: str, unseen: Sequence[str]) -> Dict[str, str]:
    text = _text_of(path, "the variables cannot be read from the file", unseen)
    found: Dict[str, str] = {}
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        line = line.strip()
        if line and not line.startswith("#"):
            name, value = _pair(line, "line {} of the file {}".format(number, path))
            found[name] = value
    return found


def _pair(line: str, where: str) -> Tuple[str, str]:
    name, equals, value = line.partition("=")
    words: List[str] = name.split()
    if len(words) == 2 and words[0] == "export":
        del words[0]
    if not equals or len(words) != 1 or not _NAME.fullmatch(words[0]):
        raise NotStarted("{} is not of the form NAME=VALUE".format(where))
    return words[0], _unquoted(value.strip(), where)


def _unquoted(value: str, where: str) -> str:
    r"""A value without its quotes; \n, \" and the like mean something within double quotes only."""
    quote = value[:1]
    if quote not in ("'", '"'):
        return value
    if len(value) < 2 or not value.endswith(quote):
        raise NotStarted("{} has a quote that is not closed on the same line".format(where))
    inner = value[1:-1]
    return _ESCAPED.sub(lambda found: _ESCAPES.get(found[1], found[1]), inner) if quote == '"' else inner
