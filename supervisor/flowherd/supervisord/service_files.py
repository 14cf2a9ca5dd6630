"""The text of service files for supervisord and systemd, made from the templates in conf/.

Each format has its own rules for quoting; a value that a format cannot express is refused.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Template

from flowherd.config.conf_files import conf_directory
from flowherd.errors import ConfigurationError

#: The setting that service files have as a comment: what it does, what that breaks, and the variable.
ISOLATION_TEXT = (
    "keeps runs apart from each other and from flowherd (docs/how-to/isolate-runs.md).",
    "It breaks flows that meet others in /tmp, look at other processes, or use docker, sudo or flowherd.",
)
ISOLATION_VARIABLE = ("FLOWHERD__RUNS__ISOLATION__LEVEL", "private")
#: Time to stop after drain deadline and grace, for the last reports to the backend, seconds.
STOP_MARGIN_S = 30.0

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class Service:
    """An agent, or a server of Prefect 3, as a service."""

    #: Name of the program or of the unit.
    name: str
    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    #: File with further variables; for an agent under systemd only.
    environment_file: Path | None = None
    user: str | None = None
    directory: Path
    #: Time between asking it to stop and killing it, seconds.
    stop_wait_s: int
    #: File for its output under supervisord, which would keep it in a temporary file else.
    log_file: Path | None = None


def supervisord_section(service: Service) -> str:
    """Return the [program:x] section of an agent.

    Raises ConfigurationError for a value that the format cannot express, here and in the functions below.
    """
    if service.environment_file is not None:
        raise ConfigurationError("supervisord reads no environment file; give the variables with -e, or use systemd")
    return _section("supervisord.conf", service)


def server_section(service: Service) -> str:
    """Return the [program:x] section of a Prefect 3 server, which is started by a shell that reads the environment."""
    words = service.argv
    if service.environment_file is not None:
        script = 'set -a; . "$1"; shift; exec "$@"'
        words = ["/bin/sh", "-c", script, "sh", str(service.environment_file), *words]
    return _section("prefect-server.conf", replace(service, argv=words))


def server_unit(service: Service) -> str:
    """Return the unit file of a Prefect 3 server."""
    check_names(service)
    lines = [f"Environment={systemd_quoted(f'{name}={value}')}\n" for name, value in service.environment.items()]
    if service.environment_file is not None:
        lines.append(f"EnvironmentFile={systemd_path(service.environment_file)}\n")
    return template("prefect-server.service").substitute(
        unit=service.name,
        # Only in ExecStart does $ begin the name of a variable.
        command=" ".join(systemd_quoted(word).replace("$", "$$") for word in service.argv),
        environment_lines="".join(lines),
        user_lines=f"User={service.user}\n" if service.user else "",
        directory=systemd_path(service.directory),
        stop_wait_s=service.stop_wait_s,
    )


def _section(kind: str, service: Service) -> str:
    check_names(service)
    pairs = [f"{name}={_supervisord_value(value)}" for name, value in service.environment.items()]
    return template(kind).substitute(
        program=service.name,
        command=supervisord_text(shlex.join(service.argv)),
        environment=supervisord_text(",".join(pairs)),
        isolation_lines="" if "--isolation" in service.argv else _isolation_lines(pairs),
        user_lines=f"user={service.user}\n" if service.user else "",
        directory=supervisord_text(str(service.directory)),
        stop_wait_s=service.stop_wait_s,
        log_file=supervisord_text(str(service.log_file or "AUTO")),
    )


def _isolation_lines(pairs: Sequence[str]) -> str:
    name, value = ISOLATION_VARIABLE
    environment = supervisord_text(",".join([*pairs, f'{name}="{value}"']))
    keeps, breaks = ISOLATION_TEXT
    return f"; In place of the line above, this {keeps}\n; {breaks}\n;environment={environment}\n"


def template(name: str) -> Template:
    """Return a template of conf/."""
    return Template((conf_directory() / name).read_text(encoding="utf-8"))


def check_names(service: Service) -> None:
    """Raise ConfigurationError if a name in the service is not valid in its formats."""
    if not _NAME.fullmatch(service.name):
        raise ConfigurationError(f"{service.name!r} is not a valid name of a service: letters, digits, _ . - only")
    if service.user is not None and not _NAME.fullmatch(service.user):
        raise ConfigurationError(f"{service.user!r} is not a valid name of a user")
    for name in service.environment:
        if not _VARIABLE.fullmatch(name):
            raise ConfigurationError(f"{name!r} is not a valid name of a variable: letters, digits and _ only")


def stdout_log(program: str, home: Path) -> Path:
    """Return a file for a program's output in a directory that exists; without it supervisord would not start at all.

    For root that is one of /var/log, for others the home of flowherd if there is one.
    """
    places = [Path("/var/log/supervisor"), Path("/var/log")] if os.geteuid() == 0 else [home, Path.home()]
    return next((place for place in places if place.is_dir()), places[-1]) / f"{program}.log"


def _supervisord_value(value: str) -> str:
    # supervisord's lexer knows quotes but no way to escape them, and removes quotes at the ends of a value.
    for quote in "\"'":
        if quote not in value and not value.startswith(("'", '"')) and not value.endswith(("'", '"')):
            return quote + value + quote
    raise ConfigurationError(f"supervisord's environment cannot contain {value!r}, because of its quotes")


def supervisord_text(text: str) -> str:
    """Return a value as supervisord's format has it. Raises ConfigurationError if it cannot express it."""
    if "\n" in text or "\r" in text or re.search(r"\s[;#]", text):
        raise ConfigurationError(f"supervisord's format cannot contain {text!r}: a line break, or ; or # after a blank")
    return text.replace("%", "%%")


def systemd_quoted(word: str) -> str:
    """Return a word in quotes, in which systemd expands no specifier."""
    if "\n" in word or "\r" in word:
        raise ConfigurationError(f"a systemd unit cannot contain {word!r}: a line break")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def systemd_path(path: Path) -> str:
    """Return a path as the value of a setting."""
    # A setting that is a path takes the rest of its line unquoted.
    return str(path).replace("%", "%%")
