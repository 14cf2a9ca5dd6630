"""supervisord's XML-RPC interface: the state of a program, and its restart.

Sources: http://supervisord.org/api.html and supervisor/xmlrpc.py.
"""

from __future__ import annotations

import configparser
import os
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport  # type: ignore[import-untyped]

from flowherd.errors import FlowherdError

#: The variable with its address that supervisord sets for the programs that it runs.
URL_VARIABLE = "SUPERVISOR_SERVER_URL"
#: The files in which supervisorctl looks too, in this order (http://supervisord.org/configuration.html).
CONFIGURATIONS = (
    "supervisord.conf",
    "etc/supervisord.conf",
    "/etc/supervisord.conf",
    "/etc/supervisor/supervisord.conf",
)
#: Code of the fault "no such program" (supervisor/xmlrpc.py, Faults.BAD_NAME).
_BAD_NAME = 10
#: Code of the fault "the program is not running" (Faults.NOT_RUNNING).
_NOT_RUNNING = 70


class SupervisordError(FlowherdError):
    """supervisord cannot be reached, or refuses the request."""


@dataclass(frozen=True, kw_only=True)
class ProgramState:
    """One program according to supervisord."""

    name: str
    #: RUNNING, STARTING, STOPPED, BACKOFF, FATAL ...; None if supervisord has no such program.
    state: str | None
    pid: int | None = None
    #: supervisord's own text: "pid 12, uptime 0:01:02".
    description: str = ""

    @property
    def up(self) -> bool:
        """Whether it is running."""
        return self.state == "RUNNING"


@dataclass(frozen=True, kw_only=True)
class Access:
    """How supervisord is reached."""

    url: str
    username: str | None = None
    password: str | None = None


class Fault(SupervisordError):
    """supervisord refuses a request; `code` is that of Faults in supervisor/xmlrpc.py."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def restart_program(access: Access, name: str) -> None:
    """Make supervisord stop the program `name` and start it again; returns after both.

    Raises SupervisordError. If the start fails, the program stays stopped.
    """
    try:
        call(access, "stopProcess", name)
    except Fault as fault:
        if fault.code != _NOT_RUNNING:
            raise
    call(access, "startProcess", name)


def program_state(access: Access, name: str) -> ProgramState:
    """Return the state of the program `name`.

    `access.url` is unix:///path/of/socket or http://host:port. Raises SupervisordError.
    """
    try:
        info = call(access, "getProcessInfo", name)
    except Fault as fault:
        if fault.code == _BAD_NAME:
            return ProgramState(name=name, state=None)
        raise
    if not isinstance(info, dict):
        raise SupervisordError(f"supervisord at {access.url} answered something that is not the state of a program")
    return ProgramState(
        name=name,
        state=str(info["statename"]),
        pid=int(str(info["pid"])) or None,
        description=str(info["description"]),
    )


def call(access: Access, method: str, *arguments: Any) -> Any:
    """Call a method of supervisord, or with a dot in its name that of a plugin, and return its result.

    Raises Fault if supervisord refuses, else SupervisordError.
    """
    if not access.url.startswith(("unix://", "http://")):
        raise SupervisordError(
            f"{access.url!r} is not an address of supervisord; write it as unix:///path or http://HOST:PORT"
        )
    transport = SupervisorTransport(access.username, access.password, serverurl=access.url)
    # For a unix socket the transport uses its own address, and the proxy only needs one that looks like HTTP.
    uri = access.url if access.url.startswith("http://") else "http://127.0.0.1"
    try:
        with xmlrpc.client.ServerProxy(uri, transport=transport) as proxy:
            namespace, _, name = method.rpartition(".")
            return getattr(getattr(proxy, namespace or "supervisor"), name)(*arguments)
    except xmlrpc.client.Fault as fault:
        raise Fault(f"supervisord at {access.url} answered: {fault.faultString}", fault.faultCode) from fault
    except xmlrpc.client.ProtocolError as error:
        raise SupervisordError(f"supervisord at {access.url} answered HTTP {error.errcode} {error.errmsg}") from error
    except OSError as error:
        raise SupervisordError(f"supervisord at {access.url} cannot be reached: {error}") from error


def find_access(url: str | None, configuration: str | None) -> Access | None:
    """Find out how to reach supervisord: by `url`, a configuration file, its variable, or the places of supervisorctl.

    Returns None if none of these names an address. Raises SupervisordError if `configuration` has none.
    """
    if url:
        return Access(url=url)
    if configuration:
        found = _read(Path(configuration))
        if found is None:
            raise SupervisordError(f"{configuration} has no [supervisorctl] section with a serverurl")
        return found
    if os.environ.get(URL_VARIABLE):
        return Access(url=os.environ[URL_VARIABLE])
    for candidate in CONFIGURATIONS:
        if Path(candidate).is_file():
            return _read(Path(candidate))
    return None


def _read(path: Path) -> Access | None:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(" ;",))
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (OSError, configparser.Error, UnicodeDecodeError) as error:
        raise SupervisordError(f"{path} cannot be read: {error}") from error
    url = parser.get("supervisorctl", "serverurl", fallback=None)
    if not url:
        return None
    return Access(
        url=url.replace("%(here)s", str(path.absolute().parent)),
        username=parser.get("supervisorctl", "username", fallback=None),
        password=parser.get("supervisorctl", "password", fallback=None),
    )
