"""The text of a supervisord program section and of a systemd unit, from the templates in conf/: an agent's, a server's.

Quoting is the matter here: each format has its own rules, and a value that a format cannot hold is refused.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Template

from flowherd.config.conf_files import conf_directory
from flowherd.errors import ConfigurationError

#: Beyond the drain deadline: the last runs' grace, and the last words to the backend.
STOP_MARGIN_S = 30.0

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class Service:
    """An agent, or a server of Prefect 3, as a service."""

    #: The program's or the unit's name.
    name: str
    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    #: A file of further variables; for an agent, systemd only.
    environment_file: Path | None = None
    user: str | None = None
    directory: Path
    #: Between asking it to stop and killing it.
    stop_wait_s: int


def supervisord_section(service: Service) -> str:
    """The agent's [program:x] section. Raises ConfigurationError for a value that the format cannot hold."""
    if service.environment_file is not None:
        raise ConfigurationError("supervisord reads no environment file; give the variables with -e, or use systemd")
    return _section("supervisord.conf", service)


def systemd_unit(service: Service) -> str:
    """The agent's unit file. Raises ConfigurationError for a value that the format cannot hold."""
    return _unit("flowherd.service", service)


def server_section(service: Service) -> str:
    """The [program:x] section of a Prefect 3 server, which a shell starts once it has read the environment file."""
    words = service.argv
    if service.environment_file is not None:
        script = 'set -a; . "$1"; shift; exec "$@"'
        words = ["/bin/sh", "-c", script, "sh", str(service.environment_file), *words]
    return _section("prefect-server.conf", replace(service, argv=words))


def server_unit(service: Service) -> str:
    """The unit file of a Prefect 3 server."""
    return _unit("prefect-server.service", service)


def _section(template: str, service: Service) -> str:
    _check_names(service)
    pairs = [f"{name}={_supervisord_value(value)}" for name, value in service.environment.items()]
    return _template(template).substitute(
        program=service.name,
        command=_supervisord_text(shlex.join(service.argv)),
        environment=_supervisord_text(",".join(pairs)),
        user_lines=f"user={service.user}\n" if service.user else "",
        directory=_supervisord_text(str(service.directory)),
        stop_wait_s=service.stop_wait_s,
    )


def _unit(template: str, service: Service) -> str:
    _check_names(service)
    lines = [f"Environment={_systemd_quoted(f'{name}={value}')}\n" for name, value in service.environment.items()]
    if service.environment_file is not None:
        lines.append(f"EnvironmentFile={_systemd_path(service.environment_file)}\n")
    return _template(template).substitute(
        unit=service.name,
        # $ stands for a variable in ExecStart alone.
        command=" ".join(_systemd_quoted(word).replace("$", "$$") for word in service.argv),
        environment_lines="".join(lines),
        user_lines=f"User={service.user}\n" if service.user else "",
        directory=_systemd_path(service.directory),
        stop_wait_s=service.stop_wait_s,
    )


def _template(name: str) -> Template:
    return Template((conf_directory() / name).read_text(encoding="utf-8"))


def _check_names(service: Service) -> None:
    if not _NAME.fullmatch(service.name):
        raise ConfigurationError(f"{service.name!r} cannot be a service's name: letters, digits, _ . - only")
    if service.user is not None and not _NAME.fullmatch(service.user):
        raise ConfigurationError(f"{service.user!r} cannot be a user's name")
    for name in service.environment:
        if not _VARIABLE.fullmatch(name):
            raise ConfigurationError(f"{name!r} cannot be a variable's name: letters, digits and _ only")


def _supervisord_value(value: str) -> str:
    # supervisord's lexer knows quotes and nothing that escapes them, and takes quotes at the ends away.
    for quote in "\"'":
        if quote not in value and not value.startswith(("'", '"')) and not value.endswith(("'", '"')):
            return quote + value + quote
    raise ConfigurationError(f"supervisord's environment cannot hold {value!r}, because of its quotes")


def _supervisord_text(text: str) -> str:
    if "\n" in text or "\r" in text or re.search(r"\s[;#]", text):
        raise ConfigurationError(f"supervisord's format cannot hold {text!r}: line breaks, or ; or # behind a blank")
    return text.replace("%", "%%")


def _systemd_quoted(word: str) -> str:
    if "\n" in word or "\r" in word:
        raise ConfigurationError(f"a systemd unit cannot hold {word!r}: line breaks")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _systemd_path(path: Path) -> str:
    # A path setting takes the rest of its line as it is.
    return str(path).replace("%", "%%")
