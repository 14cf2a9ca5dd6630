"""What somebody asks of this agent over its server: pause, resume, drain, restart (setting agent.remote)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from loguru import logger

from flowherd.agent.control import Control
from flowherd.agent.shutdown import ShutdownRequest
from flowherd.story.live_news import Action, Order

#: What an agent answers that cannot be started again by itself.
CANNOT_RESTART = "this agent is part of another program, which does not restart it; stop and start that program"
#: Number of orders whose outcome is reported again, in case the report was lost.
_MOST_OUTCOMES = 20


class Orders:
    """Carries out each order once. `poke` is called when the agent may claim again."""

    def __init__(self, control: Control, poke: Callable[[], None], *, allowed: bool) -> None:
        #: Whether orders are carried out.
        self.allowed = allowed
        self._control = control
        self._poke = poke
        self._lock = threading.Lock()
        self._outcomes: dict[str, str] = {}

    @property
    def outcomes(self) -> dict[str, str]:
        """What came of the last orders by their ids: why one was not carried out, empty if it was."""
        with self._lock:
            return dict(self._outcomes)

    def take(self, orders: Iterable[Order], announce: Callable[[], None]) -> None:
        """Carry out those that are new. `announce` sends the outcomes; before the agent stops, if it is to stop."""
        for order in orders:
            with self._lock:
                if order.id in self._outcomes:
                    continue
                self._outcomes[order.id] = self._objection(order)
                while len(self._outcomes) > _MOST_OUTCOMES:
                    del self._outcomes[next(iter(self._outcomes))]
                is_refused = bool(self._outcomes[order.id])
            if not is_refused and order.action in (Action.PAUSE, Action.RESUME):
                self._carry_out(order)
            announce()
            if not is_refused and order.action in (Action.DRAIN, Action.RESTART):
                self._carry_out(order)

    def _objection(self, order: Order) -> str:
        """Return why an order cannot be carried out; empty if it can."""
        if not self.allowed:
            return "agent.remote is off, so this agent takes no orders from its server"
        if self._control.shutdown_request is not None:
            return "the agent is already stopping"
        if order.action is Action.RESTART and not self._control.may_restart:
            return CANNOT_RESTART
        return ""

    def _carry_out(self, order: Order) -> None:
        logger.info("Asked over the server to {}", order.action.value)
        try:
            if order.action is Action.PAUSE:
                self._control.pause()
            elif order.action is Action.RESUME:
                self._control.resume()
                self._poke()
            elif order.action is Action.DRAIN:
                self._control.shut_down(ShutdownRequest(on_stop="drain", deadline_s=order.deadline_s))
            else:
                self._control.shut_down(ShutdownRequest(on_stop="detach", start_again=True))
        except OSError as error:  # the state directory is full, or no longer writable
            logger.warning("Cannot {}: {}", order.action.value, error)
            with self._lock:
                self._outcomes[order.id] = str(error)
