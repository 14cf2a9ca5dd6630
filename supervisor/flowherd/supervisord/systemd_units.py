"""The text of systemd's units for an agent, for one version of systemd, made from the templates in conf/."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flowherd.errors import ConfigurationError
from flowherd.supervisord.service_files import (
    ISOLATION_TEXT,
    ISOLATION_VARIABLE,
    Service,
    check_names,
    systemd_path,
    systemd_quoted,
    template,
)

#: The instance of a template unit, where a word of the command has it (systemd.unit(5), "Specifiers").
INSTANCE = "\0i"
#: The first versions of systemd with what is printed only for them (its NEWS): `%d`, Type=notify-reload, and
#: DelegateSubgroup=.
_CREDENTIALS_DIRECTORY, _NOTIFY_RELOAD, _DELEGATE_SUBGROUP = 250, 253, 254
_VERSION = re.compile(r"systemd (\d+)")
#: How long systemctl may take to print its version, seconds.
_TIMEOUT_S = 10


@dataclass(frozen=True, kw_only=True)
class UnitOptions:
    """What distinguishes the units of one service."""

    #: Version of systemd; 0 if it is not known, and only what every version from 240 on has is used.
    version: int
    #: Whether it is for the systemd of a user instead of the system's.
    is_users: bool = False
    #: Whether it is a template, whose instances are agents of that name.
    is_template: bool = False
    #: Time without a sign of contact after which the agent is started again, seconds.
    watchdog_s: int
    #: Files with secrets, by the variable that names each to the agent.
    secrets: Mapping[str, Path] = field(default_factory=dict)

    @property
    def has_credentials(self) -> bool:
        """Whether systemd, as root, reads the files of secrets for the agent (systemd.exec(5), LoadCredential=)."""
        return not self.is_users and self.version >= _CREDENTIALS_DIRECTORY


def systemd_version() -> int | None:
    """Return the version of this host's systemd; None if it has none."""
    try:
        done = subprocess.run(
            ["systemctl", "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.match(done.stdout)
    return int(found[1]) if found else None


def systemd_unit(service: Service, options: UnitOptions) -> str:
    """Return the unit file of an agent.

    Raises ConfigurationError for a value that the format cannot express, here and in `socket_unit`.
    """
    check_names(service)
    unit = service.name + "@" * options.is_template
    return template("flowherd.service").substitute(
        _of_manager(options),
        file=f"{unit}.service",
        instance=f"{unit}NAME" if options.is_template else unit,
        more_steps=_more_steps(options),
        description="%i" if options.is_template else unit,
        network_lines="" if options.is_users else "Wants=network-online.target\nAfter=network-online.target\n",
        type_lines=_type_lines(options.version),
        command=" ".join(_word(word) for word in service.argv),
        environment_lines="".join(_environment_lines(service, options)),
        isolation_lines="" if "--isolation" in service.argv else _isolation_lines(),
        user_lines=f"User={service.user}\n" if service.user else "",
        directory=systemd_path(service.directory),
        stop_wait_s=service.stop_wait_s,
        watchdog_s=options.watchdog_s,
        cgroup_lines=_cgroup_lines(options.version),
        wanted_by="default.target" if options.is_users else "multi-user.target",
    )


def socket_unit(service: Service, options: UnitOptions, listen: str) -> str:
    """Return the socket unit that opens the agent's API at `listen`: HOST:PORT, or the path of a socket."""
    check_names(service)
    if "\n" in listen or "\r" in listen:
        raise ConfigurationError(f"a systemd unit cannot contain {listen!r}: a line break")
    user = f"SocketUser={service.user}\n" if service.user else ""
    return template("flowherd.socket").substitute(
        _of_manager(options),
        unit=service.name,
        listen=listen.replace("%", "%%"),
        mode_lines=f"SocketMode=0600\n{user}" if listen.startswith("/") else "",
    )


def _of_manager(options: UnitOptions) -> dict[str, str]:
    version = options.version or "240 or newer"
    if options.is_users:
        manager, systemctl, directory = "a user's systemd", "systemctl --user", "~/.config/systemd/user"
    else:
        manager, systemctl, directory = "systemd", "systemctl", "/etc/systemd/system"
    return {"manager": f"{manager} {version}", "systemctl": systemctl, "directory_of_units": directory}


def _more_steps(options: UnitOptions) -> str:
    template_use = "\n# NAME is the agent's name; each has its own. " if options.is_template else ""
    linger = "\n# `loginctl enable-linger` starts it with the host, and keeps it when the user logs out."
    return template_use.rstrip(" ") + (linger if options.is_users else "")


def _type_lines(version: int) -> str:
    if version >= _NOTIFY_RELOAD:
        return "Type=notify-reload\n"
    return "Type=notify\nExecReload=/bin/kill -HUP $MAINPID\n"


def _cgroup_lines(version: int) -> str:
    if version >= _DELEGATE_SUBGROUP:
        return "Delegate=yes\nDelegateSubgroup=agent\n"
    return "Delegate=yes\n"


def _isolation_lines() -> str:
    keeps, breaks = ISOLATION_TEXT
    return f"# Uncommented, this {keeps}\n# {breaks}\n#Environment={'='.join(ISOLATION_VARIABLE)}\n"


def _environment_lines(service: Service, options: UnitOptions) -> list[str]:
    lines = [f"Environment={systemd_quoted(f'{name}={value}')}\n" for name, value in service.environment.items()]
    for variable, path in options.secrets.items():
        if options.has_credentials:
            credential = variable.removesuffix("_FILE").lower().replace("__", ".")
            lines.append(f"LoadCredential={credential}:{systemd_path(path)}\n")
            lines.append(f'Environment="{variable}=%d/{credential}"\n')
        else:
            lines.append(f"Environment={systemd_quoted(f'{variable}={path}')}\n")
    if service.environment_file is not None:
        lines.append(f"EnvironmentFile={systemd_path(service.environment_file)}\n")
    return lines


def _word(word: str) -> str:
    # Only in ExecStart does $ begin the name of a variable.
    return systemd_quoted(word).replace("$", "$$").replace(INSTANCE, "%i")
