"""What later agents of the same family have beside the published methods, so that subclasses written for them work.

Names and meaning are those of Prefect 1.x. A mixin of `Agent`, in a file of its own.
"""

from __future__ import annotations

import functools
import threading
import warnings
from typing import TYPE_CHECKING, Any, TypeVar

from flowherd.agent.overrides import never_called
from flowherd.agent.run_configs import load_run_config
from flowherd.errors import ConfigurationError, OverrideNeverCalled
from flowherd.values import FlowRun

if TYPE_CHECKING:
    from flowherd.agent.connection import Connection

AnyRunConfig = TypeVar("AnyRunConfig")

#: While `heartbeat_period` has this value, seconds, `heartbeat` is called before every poll and by no clock.
_USUAL_PERIOD_S = 60.0


class LaterNames:
    """Hooks and names of later agents; see the module."""

    logger: Any
    _own_connection: Connection

    #: Seconds between two calls of `heartbeat`. Unless a subclass or its object sets another value, `heartbeat` is
    #: called before every poll instead, as by the first agents.
    heartbeat_period: float = _USUAL_PERIOD_S
    #: Id of the agent's configuration at the backend, which is sent when the agent registers; None for none.
    agent_config_id: str | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Warn of each override that is never called."""
        super().__init_subclass__(**kwargs)
        for name, advice in never_called(cls):
            warnings.warn(
                f"{cls.__name__} overrides {name}, which flowherd never calls: {advice}",
                OverrideNeverCalled,
                stacklevel=2,
            )

    @property
    def flow_run_api_key(self) -> str | None:
        """The token that the engine of a flow run reports with: the agent's own; None if it has none.

        A subclass may return another one. Asked for each run.
        """
        try:
            access = self._own_connection.engine_access()
        except ConfigurationError:  # no backend is configured
            return None
        return access.token or None if access is not None else None

    def on_startup(self) -> None:
        """Called when the agent starts, after the first try to reach the backend and before any poll."""

    def on_shutdown(self) -> None:
        """Called while the agent shuts down; for subclasses."""

    def heartbeat(self) -> None:
        """Called before every poll, or every `heartbeat_period` seconds if a subclass sets it; for subclasses."""

    @functools.cached_property
    def _own_heartbeats(self) -> Heartbeats:
        return Heartbeats(self)

    def _get_run_config(self, flow_run: FlowRun, run_config_cls: type[AnyRunConfig]) -> AnyRunConfig:
        """Return the run config of a flow run as an object of this class; for subclasses.

        Raises TypeError, after it has been logged, if the run config is for another platform.
        """
        try:
            return load_run_config(flow_run, run_config_cls)
        except TypeError as error:
            self.logger.error(str(error))
            raise


class Heartbeats:
    """Calls an agent's `heartbeat` every `heartbeat_period` seconds in a thread of its own, if the agent has set it."""

    def __init__(self, agent: LaterNames) -> None:
        self._agent = agent
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def before_poll(self) -> None:
        """Call it, unless the thread does."""
        if self._thread is None:
            self._agent.heartbeat()

    def start(self) -> None:
        """Start the thread, which calls it at once, if the agent has chosen a period."""
        if self._agent.heartbeat_period != _USUAL_PERIOD_S:
            self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Call it no more. A call that is under way is not waited for."""
        self._closing.set()

    def _beat(self) -> None:
        while not self._closing.is_set():
            try:
                self._agent.heartbeat()
            except Exception as error:  # the agent goes on without this heartbeat
                self._agent.logger.error(
                    f"Error in the agent's heartbeat, trying again in {self._agent.heartbeat_period:.1f} s: {error!r}"
                )
            self._closing.wait(self._agent.heartbeat_period)
