"""flowherd's plugins for supervisord and supervisorctl.

    [rpcinterface:flowherd]
    supervisor.rpcinterface_factory = flowherd_supervisord:rpc_interface
    socket = /var/lib/flowherd/agents/NAME/control.sock

    [ctlplugin:flowherd]
    supervisor.ctl_factory = flowherd_supervisord:control_plugin

supervisord often runs in the system's Python, so this package needs the standard library and supervisor alone, and the
grammar of Python 3.7. It knows an agent only by its control socket. No factory raises an exception, because that would
stop supervisord or supervisorctl: what is wrong is reported when a method is called.

agent_socket     the requests to an agent, and one that waits for the answer
loop_request     a request that never holds up supervisord's loop
rpc_values       values as supervisord's XML-RPC can send them
program_ends     how programs have ended, for the event listener
rpc_methods      the methods flowherd.METHOD of supervisord's XML-RPC
control_command  the command `flowherd` of supervisorctl
shown            what supervisorctl shows, as text

No module here may have the name of a factory: once imported, it would take the factory's place.
"""

from typing import Any


def rpc_interface(supervisord: Any = None, **options: str) -> object:
    """Return the methods that supervisord exposes as flowherd.METHOD; called once for each of its HTTP servers.

    `options` are the other keys of the section: `socket`, the agent's control socket, and `timeout`, the longest wait
    for an answer of the agent in seconds (10).
    """
    try:
        from flowherd_supervisord.rpc_methods import FlowherdInterface

        return FlowherdInterface(options)
    except Exception as error:
        return _Broken(error)


def control_plugin(controller: Any = None, **options: str) -> object:
    """Return the plugin of supervisorctl with the command `flowherd`.

    `options` are the other keys of the section: `namespace`, the NAME of [rpcinterface:NAME] (flowherd).
    """
    try:
        from flowherd_supervisord.control_command import FlowherdPlugin

        return FlowherdPlugin(controller, options)
    except Exception as error:
        return _BrokenPlugin(controller, error)


class _Broken:
    """Stands in for an interface that cannot be made."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def health(self) -> None:
        """Report why flowherd's methods are missing."""
        raise _fault(_reason(self._error))


class _BrokenPlugin:
    """Stands in for a plugin that cannot be made, with all that supervisorctl calls."""

    name = "flowherd"

    def __init__(self, controller: Any, error: Exception) -> None:
        self._controller = controller
        self._error = error

    def do_flowherd(self, arg: str) -> None:
        """Report why the command is missing."""
        self._controller.output("error: " + _reason(self._error))
        self._controller.exitstatus = 1

    def do_help(self, arg: str) -> None:
        """Answer `help flowherd`."""
        if arg.strip() == "flowherd":
            self._controller.output(_reason(self._error))


def _reason(error: Exception) -> str:
    return "flowherd's plugin cannot be loaded: {}: {}".format(type(error).__name__, error)


def _fault(text: str) -> Exception:
    try:
        from supervisor.xmlrpc import Faults, RPCError  # type: ignore[import-untyped]
    except ImportError:
        return RuntimeError(text)
    return RPCError(Faults.FAILED, text)  # type: ignore[no-any-return]
