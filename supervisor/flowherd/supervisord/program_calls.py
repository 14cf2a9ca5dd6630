"""What the event listener asks supervisord over XML-RPC, if supervisord has an HTTP server; else it goes without."""

from __future__ import annotations

import socket
import xmlrpc.client
from collections.abc import Mapping, Sequence
from typing import Any

from supervisor.childutils import getRPCInterface  # type: ignore[import-untyped]

#: Longest wait for an answer, seconds.
_TIMEOUT_S = 5.0
#: How much of the end of supervisord's log is read, bytes.
_TAIL_BYTES = 32 * 1024
#: Fault "there is no such method" (supervisor/xmlrpc.py, Faults.UNKNOWN_METHOD).
_UNKNOWN_METHOD = 1
#: Namespace of flowherd's methods: NAME of its section [rpcinterface:NAME].
_NAMESPACE_VARIABLE, _NAMESPACE = "FLOWHERD_RPC_NAMESPACE", "flowherd"


class ProgramCalls:
    """One supervisord. Every method returns nothing found rather than raise."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = dict(environ)
        self._namespace = environ.get(_NAMESPACE_VARIABLE, _NAMESPACE)
        self._has_server = bool(environ.get("SUPERVISOR_SERVER_URL"))
        socket.setdefaulttimeout(_TIMEOUT_S)

    def noted_end(self, serial: int) -> Mapping[str, Any] | None:
        """Return what flowherd's plugin in supervisord has noted with the event of this number."""
        found = self._call(f"{self._namespace}.program_ends", serial, 1)
        ends = found if isinstance(found, list) else []
        return next((end for end in ends if isinstance(end, dict) and end.get("serial") == serial), None)

    def log_tail(self) -> str:
        """Return the end of supervisord's own log."""
        found = self._call("supervisor.readLog", -_TAIL_BYTES, 0)
        return found if isinstance(found, str) else ""

    def running(self) -> Sequence[tuple[str, str, int]]:
        """Return group, name and pid of the programs that run."""
        found = self._call("supervisor.getAllProcessInfo")
        infos = found if isinstance(found, list) else []
        return [(str(each["group"]), str(each["name"]), int(each["pid"])) for each in infos if each.get("pid")]

    def _call(self, method: str, *arguments: Any) -> Any:
        if not self._has_server:
            return None
        try:
            with getRPCInterface(self._environ) as proxy:
                return getattr(proxy, method)(*arguments)
        except xmlrpc.client.Fault:
            return None
        except Exception:
            # Whatever a server answers, or if it is being restarted: the event is logged without this.
            return None
