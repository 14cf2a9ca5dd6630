"""The methods flowherd.METHOD of supervisord's XML-RPC. supervisord decides who may call them."""

from typing import Any, Callable, Mapping

from flowherd_supervisord.loop_request import deferred
from flowherd_supervisord.rpc_values import fault

#: Longest wait for an answer of the agent that a section may ask for, seconds.
_LONGEST_TIMEOUT_S = 600.0

Deferred = Callable[[], Any]


def make_interface(options: Mapping[str, str]) -> "FlowherdInterface":
    """Return the interface of a section with these keys."""
    return FlowherdInterface(options)


class FlowherdInterface:
    """One agent. supervisord publishes all methods whose name begins with a letter."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self._socket = options.get("socket", "")
        self._timeout_s = 10.0
        self._problem = ""
        unknown = sorted(set(options) - {"socket", "timeout"})
        if not self._socket:
            self._problem = "has no socket=; write the path of the agent's control.sock there"
        elif unknown:
            self._problem = "has the unknown key {}; known are socket and timeout".format(unknown[0])
        try:
            self._timeout_s = float(options.get("timeout", "10"))
        except ValueError:
            self._timeout_s = 0.0
        if not self._problem and not 0 < self._timeout_s <= _LONGEST_TIMEOUT_S:
            self._problem = "has timeout={}; write seconds, up to {:g}".format(options["timeout"], _LONGEST_TIMEOUT_S)

    def health(self) -> Deferred:
        """Return the state of the agent: status, reason, pid, instance, paused, runs, limit and more."""
        return self._ask("GET", "agent")

    def _ask(self, method: str, path: str, **query: Any) -> Deferred:
        if self._problem:
            raise fault("the [rpcinterface:...] section of flowherd " + self._problem)
        return deferred(self._socket, method, "/api/" + path, query, self._timeout_s)
