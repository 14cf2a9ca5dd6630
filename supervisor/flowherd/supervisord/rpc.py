"""supervisord's XML-RPC: what it says of one program. The only importer of PyPI's supervisor.

Facts: http://supervisord.org/api.html and supervisor/xmlrpc.py.
"""

from __future__ import annotations

import configparser
import os
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path

from supervisor.xmlrpc import SupervisorTransport  # type: ignore[import-untyped]

from flowherd.errors import FlowherdError

#: supervisord sets this for the programs that it runs.
URL_VARIABLE = "SUPERVISOR_SERVER_URL"
#: Where supervisorctl looks too, in this order (http://supervisord.org/configuration.html).
_CONFIGURATIONS = (
    "supervisord.conf",
    "etc/supervisord.conf",
    "/etc/supervisord.conf",
    "/etc/supervisor/supervisord.conf",
)
#: The fault that means "no such program" (supervisor/xmlrpc.py, Faults.BAD_NAME).
_BAD_NAME = 10


class SupervisordError(FlowherdError):
    """supervisord cannot be asked, or refuses to answer."""


@dataclass(frozen=True, kw_only=True)
class ProgramState:
    """One program as supervisord sees it."""

    name: str
    #: RUNNING, STARTING, STOPPED, BACKOFF, FATAL ...; None when it knows no such program.
    state: str | None
    pid: int | None = None
    #: In supervisord's own words: "pid 12, uptime 0:01:02".
    description: str = ""

    @property
    def up(self) -> bool:
        """Whether it runs."""
        return self.state == "RUNNING"


@dataclass(frozen=True, kw_only=True)
class Access:
    """How supervisord is reached."""

    url: str
    username: str | None = None
    password: str | None = None


def program_state(access: Access, name: str) -> ProgramState:
    """What supervisord says of the program `name`.

    `access.url` is unix:///path/of/socket or http://host:port. Raises SupervisordError.
    """
    if not access.url.startswith(("unix://", "http://")):
        raise SupervisordError(f"{access.url!r} is no address of supervisord; write unix:///path or http://HOST:PORT")
    transport = SupervisorTransport(access.username, access.password, serverurl=access.url)
    # With a unix socket the transport goes by its own address; the proxy only wants one that looks like HTTP.
    uri = access.url if access.url.startswith("http://") else "http://127.0.0.1"
    try:
        with xmlrpc.client.ServerProxy(uri, transport=transport) as proxy:
            info = proxy.supervisor.getProcessInfo(name)
    except xmlrpc.client.Fault as fault:
        if fault.faultCode == _BAD_NAME:
            return ProgramState(name=name, state=None)
        raise SupervisordError(f"supervisord at {access.url} answered: {fault.faultString}") from fault
    except xmlrpc.client.ProtocolError as error:
        raise SupervisordError(f"supervisord at {access.url} answered HTTP {error.errcode} {error.errmsg}") from error
    except OSError as error:
        raise SupervisordError(f"supervisord at {access.url} cannot be reached: {error}") from error
    if not isinstance(info, dict):
        raise SupervisordError(f"supervisord at {access.url} answered something that is no program's state")
    return ProgramState(
        name=name,
        state=str(info["statename"]),
        pid=int(str(info["pid"])) or None,
        description=str(info["description"]),
    )


def find_access(url: str | None, configuration: str | None) -> Access | None:
    """How to reach supervisord: by `url`, by a configuration file, by its own variable, or as supervisorctl would.

    None when there is nothing to go by. Raises SupervisordError when the named file is no help.
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
    for candidate in _CONFIGURATIONS:
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
