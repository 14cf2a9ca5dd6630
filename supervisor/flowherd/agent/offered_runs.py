"""Deploys flow runs that the backend offers by itself, and asks it for more when a run has ended, without a poll.

A poll looks after all that cannot be dealt with here: it declines what is not taken, settles claims without an answer,
and calls the methods of the agent that a subclass overrides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from flowherd.agent.claims import Claims
from flowherd.agent.intake import Intake
from flowherd.agent.loop import PollLoop
from flowherd.errors import BackendError
from flowherd.values import FlowRun


class OfferedRuns:
    """Takes flow runs in besides the polls of `loop`. `query` asks the backend for some; `may_take` returns whether
    runs may be taken without a poll now."""

    def __init__(
        self,
        loop: PollLoop,
        intake: Intake,
        claims: Claims,
        query: Callable[[], Sequence[FlowRun]],
        may_take: Callable[[], bool],
        log: logging.Logger,
    ) -> None:
        self._loop = loop
        self._intake = intake
        self._claims = claims
        self._query = query
        self._may_take = may_take
        self._log = log
        #: Whether a question to the backend is on its way to the executor.
        self._is_asking = False

    def take(self, offered: Sequence[FlowRun]) -> None:
        """Claim and deploy runs that the backend offers: one in this thread if nothing else is being deployed."""
        executor = self._loop.executor
        if executor is None or not self._may_take():
            self._loop.poke()
            return
        admitted = self._intake.admit(offered)
        if admitted:
            self._log.info("Found %s flow run(s) to submit for execution", len(admitted))
            self._intake.deploy_soon(executor, admitted)
        if len(admitted) < len(offered) or self._claims.uncertain:
            self._loop.poke()

    def ask(self) -> None:
        """Ask for flow runs in another thread, because there is room again. Several calls can lead to one question."""
        executor = self._loop.executor
        if executor is None or not self._may_take():
            self._loop.poke()
        elif not self._is_asking:
            self._is_asking = True
            try:
                executor.submit(self._ask)
            except RuntimeError:  # the agent stops
                self._is_asking = False

    def _ask(self) -> None:
        self._is_asking = False  # room that comes from now on leads to another question
        executor = self._loop.executor
        try:
            admitted = self._intake.admit(self._query())
        except BackendError:
            self._loop.poke()
            return
        if admitted and executor is not None:
            self._log.info("Found %s flow run(s) to submit for execution", len(admitted))
            self._intake.deploy_here(executor, admitted)
        if self._claims.uncertain:
            self._loop.poke()
