"""Claiming flow runs for one agent: the claim itself, and the outcome of claims whose answer was lost.

A waiting flow run is claimed by its own state. One that is Running and waits with some of its task runs (a long retry,
a pause that a person has ended) keeps its state; the first of these task runs, by id, carries the claim. Knows no loop
and no thread; the caller decides what to do with what was won.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum

from loguru import logger

from flowherd.agent.claim_lock import claiming_alone
from flowherd.agent.connection import Connection
from flowherd.agent.platform import Platform, Prepared
from flowherd.agent.requests import Requests
from flowherd.errors import BackendUnavailable, ClaimLost, DeployError
from flowherd.states import CLAIMABLE, RunState
from flowherd.values import Claim, FlowRun, StoredState, claim_token, deciding_task_run
from flowherd_runner.contract import faults

#: States in which a run that was prepared and never started may be; Running if its start was reported but not made.
_TO_BE_STARTED = frozenset({RunState.SUBMITTED, RunState.RUNNING})


@dataclass(frozen=True, kw_only=True)
class Settled:
    """The outcome of claims that had got no answer; claims whose outcome is still unknown are in neither."""

    won: list[FlowRun] = field(default_factory=list)
    #: Flow runs with the reason why they are not ours.
    lost: list[tuple[FlowRun, str]] = field(default_factory=list)


class PreparedOutcome(Enum):
    """What to do with a flow run that an earlier agent prepared and never started."""

    #: The claim holds: start the run.
    START = "start"
    #: Not claimed yet; the claim may be under way, and the queue hands the run out again.
    WAIT = "wait"
    #: Claimed by us and cancelled since: report its end.
    CANCELLED = "cancelled"
    #: Claimed by another agent, or ended: forget it.
    DROP = "drop"


class Claims:
    """The claims of one agent. `identity` returns who the agent is in its claim tokens."""

    def __init__(self, connection: Connection, identity: Callable[[], str]) -> None:
        self._connection = connection
        self._identity = identity
        #: Claims whose outcome is unknown, by flow run id.
        self._uncertain: dict[str, FlowRun] = {}

    def token(self, flow_run: FlowRun) -> str:
        """Return the token that this agent's claim of the flow run carries."""
        return claim_token(self._identity(), flow_run.id)

    @property
    def uncertain(self) -> Collection[str]:
        """Ids of the flow runs whose claim has no known outcome."""
        return list(self._uncertain)

    def take(self, flow_run: FlowRun) -> None:
        """Claim the flow run. A claim whose answer is lost is looked up.

        At a backend that does not arbitrate, the run is read before and after, one claim at a time on this host.

        Raises ClaimLost when another agent has it; BackendUnavailable when the outcome cannot be known now, it is then
        `uncertain`; and what else the backend refuses with.
        """
        self._connection.check_open()
        capabilities = self._connection.capabilities
        claim = _claim if capabilities is not None and capabilities.arbitrates else _claim_alone
        began_s, outcome = time.monotonic(), "failed"
        try:
            claim(self._connection, flow_run, self.token(flow_run))
            outcome = "won"
        except BackendUnavailable:
            self._uncertain[flow_run.id] = flow_run
            raise
        except Exception as error:
            outcome = _outcome(error)
            self._uncertain.pop(flow_run.id, None)
            raise
        finally:
            self._connection.measures.claims_answered(time.monotonic() - began_s, [outcome])
        self._uncertain.pop(flow_run.id, None)

    def take_many(self, flow_runs: Sequence[FlowRun]) -> dict[str, Exception | None]:
        """Claim the flow runs in one request. Returns by their ids what `take` would raise for each, or None.

        Only for servers that share runs out (`Connection.shares`). Claims whose answer is lost are looked up.
        """
        began_s = time.monotonic()
        try:
            self._connection.check_open()
            outcomes = self._take_many(flow_runs)
        except Exception as error:  # of the request, and so of each claim in it
            outcomes = dict.fromkeys((flow_run.id for flow_run in flow_runs), error)
        words = [_outcome(error) for error in outcomes.values()]
        self._connection.measures.claims_answered(time.monotonic() - began_s, words)
        for flow_run in flow_runs:
            if isinstance(outcomes[flow_run.id], BackendUnavailable):
                self._uncertain[flow_run.id] = flow_run
            else:
                self._uncertain.pop(flow_run.id, None)
        return outcomes

    def _take_many(self, flow_runs: Sequence[FlowRun]) -> dict[str, Exception | None]:
        faults.point("before-claim")
        try:
            claims = [Claim(flow_run=flow_run, token=self.token(flow_run)) for flow_run in flow_runs]
            lost = self._connection.urgent.claim_many(claims)
            faults.point("after-claim")
        except BackendUnavailable as error:
            unknown = BackendUnavailable(f"no answer to the claim: {error}", error.retry_after_s)
            if error.retry_after_s:  # the backend has answered, and is not to be asked again now
                raise unknown from error
            return self._look_up(flow_runs, unknown)
        unanswered = BackendUnavailable("the backend has not answered this one of several claims")
        return {one.id: _lost(lost[one.id]) if one.id in lost else unanswered for one in flow_runs}

    def _look_up(self, flow_runs: Sequence[FlowRun], unknown: BackendUnavailable) -> dict[str, Exception | None]:
        """Return the outcomes of claims by what the backend holds; `unknown` for those that have not arrived."""
        requests = self._connection.urgent
        through = {one.id: task_run.id for one in flow_runs if (task_run := deciding_task_run(one)) is not None}
        stored = requests.stored_states([one.id for one in flow_runs if one.id not in through])
        tasks = requests.stored_task_states(list(through.values()))
        outcomes: dict[str, Exception | None] = {}
        for one in flow_runs:
            found = tasks.get(through[one.id]) if one.id in through else stored.get(one.id)
            try:
                outcomes[one.id] = None if is_held(found, one, self.token(one)) else unknown
            except ClaimLost as error:
                outcomes[one.id] = error
        return outcomes

    def settle(self, skip: Collection[str]) -> Settled:
        """Look up the uncertain claims, except those in `skip`.

        A claim that did not arrive stays uncertain: it may still be under way. Raises BackendError; then all stay so,
        because the caller learns of none.
        """
        settled = Settled()
        for flow_run in [one for one in self._uncertain.values() if one.id not in skip]:
            try:
                if holds(self._connection.requests, flow_run, self.token(flow_run)):
                    settled.won.append(flow_run)
            except ClaimLost as error:
                settled.lost.append((flow_run, str(error)))
        for flow_run in (*settled.won, *(one for one, _ in settled.lost)):
            self._uncertain.pop(flow_run.id, None)
        return settled

    def settle_prepared(self, platform: Platform, skip: Collection[str], start: Callable[[str], None]) -> None:
        """Look up what was prepared and not started, and have the platform conclude or abandon it.

        `start` those that an earlier agent prepared and whose claim holds. Of this agent's own, only those that are not
        ours after all are abandoned: its subclass may have started the others elsewhere.

        Leaves out the runs in `skip` and the uncertain ones. Raises BackendError.
        """
        skip = {*skip, *self._uncertain}
        prepared = [one for one in platform.unfinished() if one.flow_run_id not in skip]
        stored = self._stored_claims(prepared) if prepared else {}
        for one in prepared:
            outcome = self._outcome(one, stored.get(one.flow_run_id))
            if outcome is PreparedOutcome.DROP:
                logger.bind(run_id=one.flow_run_id).info("Not ours, or ended meanwhile; dropped", action="drop")
                platform.abandon(one.flow_run_id)
            elif outcome is PreparedOutcome.START and one.by_earlier_agent:
                start(one.flow_run_id)
            elif outcome is PreparedOutcome.CANCELLED and one.by_earlier_agent:
                platform.fail_prepared(one.flow_run_id, DeployError("It was cancelled before it could be started."))

    def forget(self, flow_run_id: str) -> None:
        """Stop looking up the claim of this flow run."""
        self._uncertain.pop(flow_run_id, None)

    def _stored_claims(self, prepared: Sequence[Prepared]) -> dict[str, StoredState]:
        """Fetch the states that carry the claims: the runs' own, or those of the task runs that carry them."""
        requests = self._connection.requests
        by_task = {one.claimed_via_task_run: one.flow_run_id for one in prepared if one.claimed_via_task_run}
        stored = requests.stored_states([one.flow_run_id for one in prepared if not one.claimed_via_task_run])
        tasks = requests.stored_task_states(list(by_task))
        return {**stored, **{by_task[task_id]: state for task_id, state in tasks.items() if task_id in by_task}}

    def _outcome(self, prepared: Prepared, stored: StoredState | None) -> PreparedOutcome:
        if stored is not None and stored.state in CLAIMABLE:
            return PreparedOutcome.WAIT
        if stored is None or stored.claim != prepared.claim:
            return PreparedOutcome.DROP
        if stored.state is RunState.CANCELLING:
            return PreparedOutcome.CANCELLED
        if stored.state not in _TO_BE_STARTED:
            return PreparedOutcome.DROP
        try:
            self._connection.requests.confirm_claim(prepared.flow_run_id, prepared.claim)
        except ClaimLost:
            return PreparedOutcome.DROP
        return PreparedOutcome.START


def holds(requests: Requests, flow_run: FlowRun, token: str) -> bool:
    """Return whether the backend holds the claim of `token`. Raises ClaimLost when another agent has the flow run."""
    return is_held(_stored(requests, flow_run), flow_run, token)


def is_held(stored: StoredState | None, flow_run: FlowRun, token: str) -> bool:
    """Return whether the state that carries claims of the flow run carries `token`; raises as `holds` does."""
    if stored is None:
        raise ClaimLost(f"flow run {flow_run.id} no longer exists at the backend")
    if stored.state in CLAIMABLE:
        return False
    if stored.claim != token:
        raise ClaimLost(f"flow run {flow_run.id} is {stored.state} and not ours")
    return True


def _stored(requests: Requests, flow_run: FlowRun) -> StoredState | None:
    """Fetch the state that carries the claim of the flow run."""
    task_run = deciding_task_run(flow_run)
    if task_run is None:
        return requests.stored_states([flow_run.id]).get(flow_run.id)
    return requests.stored_task_states([task_run.id]).get(task_run.id)


def _outcome(error: Exception | None) -> str:
    """Return the word for a claim that `take` raises this of."""
    return "won" if error is None else "lost" if isinstance(error, ClaimLost) else "failed"


def _lost(reason: str | None) -> ClaimLost | None:
    return None if reason is None else ClaimLost(reason)


def _claim(connection: Connection, flow_run: FlowRun, token: str) -> None:
    faults.point("before-claim")
    try:
        connection.urgent.claim(flow_run, token)
        faults.point("after-claim")
    except BackendUnavailable as error:
        # With Retry-After the backend has answered, and is not to be asked again now: the outcome is looked up later.
        if error.retry_after_s or not holds(connection.urgent, flow_run, token):
            raise BackendUnavailable(f"no answer to the claim: {error}", error.retry_after_s) from error


def _claim_alone(connection: Connection, flow_run: FlowRun, token: str) -> None:
    with claiming_alone(connection.address, lambda: connection.is_closing):
        holds(connection.urgent, flow_run, token)  # raises ClaimLost if it no longer waits
        _claim(connection, flow_run, token)
        if not holds(connection.urgent, flow_run, token):
            raise ClaimLost(f"the claim of flow run {flow_run.id} did not stay")
