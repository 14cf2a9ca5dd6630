"""The two places where an agent's API is served: an address of its settings, and a socket in its state directory."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path

from loguru import logger

from flowherd.agent.control_socket import ControlSocket
from flowherd.agent.http_api import AgentApi, ApiFacts
from flowherd.agent.passed_sockets import passed_listener, place_of
from flowherd.errors import ConfigurationError
from flowherd.recurring_error import RecurringError


class ApiServers:
    """The servers of one agent; each is started and stopped once."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._http: AgentApi | None = None
        self._socket: ControlSocket | None = None
        #: Makes the control socket; None if there is no state directory, or once it was stopped.
        self._make_socket: Callable[[], ControlSocket] | None = None
        self._making_socket = RecurringError("make the control socket", logger)

    @property
    def address(self) -> str | None:
        """Where the HTTP API is served; None while it is not."""
        return self._http.address if self._http is not None else None

    def serve_address(self, facts: ApiFacts, address: str) -> None:
        """Serve on the socket that a service manager has passed, else at `address`; empty means nowhere.

        Raises ConfigurationError when the address cannot be used.
        """
        try:
            passed = passed_listener()
        except OSError as error:
            raise ConfigurationError(f"the socket that the service manager passes is not open: {error}") from error
        if not address and passed is None:
            return
        with contextlib.ExitStack() as undo:
            if passed is not None:
                address = place_of(undo.enter_context(passed))[1]
            self._http = AgentApi(address, self._token, facts, passed)
            undo.pop_all()
        self._http.start()
        logger.info("Serving the agent's API at {}", self._http.address)

    def serve_socket(self, facts: ApiFacts, state_dir: Path | None) -> None:
        """Serve in the state directory, if there is one. Without the socket the agent works, so a failure is logged."""
        if state_dir is None:
            return
        self._make_socket = functools.partial(ControlSocket, state_dir, facts)
        self.keep_socket()

    def keep_socket(self) -> None:
        """Make the control socket again if it was removed, or could not be made before."""
        if self._make_socket is None or (self._socket is not None and not self._socket.is_removed):
            return
        removed = self._socket
        try:
            self._socket = self._make_socket()
            self._socket.start()
        except OSError as error:  # commands can still use --agent-address
            self._making_socket.failed(error)
            return
        self._making_socket.recovered()
        if removed is not None:
            logger.warning("The control socket was removed by another program; made it again", action="repair")
            removed.stop()

    def stop_address(self) -> None:
        """Stop the HTTP API and close its port."""
        if self._http is not None:
            self._http.stop()
            self._http = None

    def stop_socket(self) -> None:
        """Stop serving on the socket and remove it."""
        self._make_socket = None
        if self._socket is not None:
            self._socket.stop()
            self._socket = None
