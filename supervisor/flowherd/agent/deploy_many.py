"""Write down, claim and deploy several flow runs together: their claims are one request.

Each flow run keeps an attempt of its own, a future that is done when the run was deployed, or was not won. Subclasses
that override how one flow run is claimed are served one by one instead (`overrides`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from functools import partial

from flowherd.agent.claims import Claims
from flowherd.agent.platform import Platform
from flowherd.values import FlowRun

#: Maximum number of flow runs in one request. The first of them waits until the last is written down, some milliseconds
#: each, and another thread deals with the next ones meanwhile.
MOST_TOGETHER = 20


#: The agent's methods that claim one flow run, and those that look for flow runs.
CLAIMING = ("deploy_and_update_flow_run", "update_state")
LOOKING = ("agent_process", "query_flow_runs")


def overrides(agent: object, base: type, *names: str) -> bool:
    """Return whether the agent overrides one of these methods of `base`."""
    return any(getattr(getattr(agent, name), "__func__", None) is not getattr(base, name) for name in names)


def in_batches(flow_runs: Sequence[FlowRun]) -> list[Sequence[FlowRun]]:
    """Return the flow runs in groups that are claimed together."""
    return [flow_runs[start : start + MOST_TOGETHER] for start in range(0, len(flow_runs), MOST_TOGETHER)]


class DeployMany:
    """Claims and deploys groups of flow runs.

    `is_held_back` returns whether nothing may be claimed now. `deploy` starts a run that is won; `not_won` deals with
    the error of one that is not.
    """

    def __init__(
        self,
        claims: Claims,
        platform: Callable[[], Platform],
        is_held_back: Callable[[], bool],
        deploy: Callable[[FlowRun], None],
        not_won: Callable[[FlowRun, Exception], None],
    ) -> None:
        self._claims = claims
        self._platform = platform
        self._is_held_back = is_held_back
        self._deploy = deploy
        self._not_won = not_won

    def run(self, flow_runs: Sequence[FlowRun], attempts: Mapping[str, Future[None]], executor: Executor) -> None:
        """Claim the flow runs, deploy those that are won, and end each one's attempt (`attempts`, by their ids).

        All but the first are deployed in other threads of the executor.
        """
        if self._is_held_back():
            for attempt in attempts.values():
                attempt.set_result(None)
            return
        prepared = [one for one in flow_runs if self._is_prepared(one, attempts[one.id])]
        outcomes = self._claims.take_many(prepared) if prepared else {}
        won = [one for one in prepared if self._is_won(one, outcomes[one.id], attempts[one.id])]
        left = [one for one in won[1:] if not self._is_submitted(one, attempts[one.id], executor)]
        for one in (*won[:1], *left):
            _make(attempts[one.id], partial(self._deploy, one))

    def _is_prepared(self, flow_run: FlowRun, attempt: Future[None]) -> bool:
        try:
            self._platform().prepare(flow_run, self._claims.token(flow_run))
        except Exception as error:  # the boundary of one run
            return self._is_won(flow_run, error, attempt)
        return True

    def _is_won(self, flow_run: FlowRun, error: Exception | None, attempt: Future[None]) -> bool:
        if error is not None:
            _make(attempt, partial(self._not_won, flow_run, error))
        return error is None

    def _is_submitted(self, flow_run: FlowRun, attempt: Future[None], executor: Executor) -> bool:
        try:
            executor.submit(_make, attempt, partial(self._deploy, flow_run))
        except RuntimeError:  # it takes no more work, because the agent stops
            return False
        return True


def _make(attempt: Future[None], work: Callable[[], None]) -> None:
    """Do the last work of an attempt and end it."""
    try:
        work()
    except BaseException as error:  # as an executor does: it belongs to the one who asks for the result
        attempt.set_exception(error)
    else:
        attempt.set_result(None)
