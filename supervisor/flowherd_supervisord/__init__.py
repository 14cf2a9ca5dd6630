"""flowherd's plugins for supervisord and supervisorctl.

    [rpcinterface:flowherd]
    supervisor.rpcinterface_factory = flowherd_supervisord:rpc_interface
    socket = /var/lib/flowherd/agents/NAME/control.sock

    [ctlplugin:flowherd]
    supervisor.ctl_factory = flowherd_supervisord:control_plugin

supervisord often runs in the system's Python, so this package needs the standard library and supervisor alone, and the
grammar of Python 3.7. It knows an agent only by its control socket. No factory raises an exception, because that would
stop supervisord or supervisorctl: what is wrong is reported when a method is called.

agent_socket   the requests to an agent, and one that waits for the answer
loop_request   a request that never holds up supervisord's loop
rpc_values     values as supervisord's XML-RPC can send them
rpc_interface  the methods flowherd.METHOD of supervisord's XML-RPC
"""

from typing import Any


def rpc_interface(supervisord: Any = None, **options: str) -> object:
    """Return the methods that supervisord exposes as flowherd.METHOD; called once for each of its HTTP servers.

    `options` are the other keys of the section: `socket`, the agent's control socket, and `timeout`, the longest wait
    for an answer of the agent in seconds (10).
    """
    try:
        from flowherd_supervisord.rpc_interface import make_interface

        return make_interface(options)
    except Exception as error:
        return _Broken(error)


class _Broken:
    """Stands in for an interface that cannot be made."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def health(self) -> None:
        """Report why flowherd's methods are missing."""
        raise _fault("flowherd's plugin cannot be loaded: {}: {}".format(type(self._error).__name__, self._error))


def _fault(text: str) -> Exception:
    try:
        from supervisor.xmlrpc import Faults, RPCError  # type: ignore[import-untyped]
    except ImportError:
        return RuntimeError(text)
    return RPCError(Faults.FAILED, text)  # type: ignore[no-any-return]
