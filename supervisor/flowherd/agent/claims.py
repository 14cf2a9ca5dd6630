"""Taking flow runs for one agent: the claim itself, and what became of claims whose answer was lost.

A flow run that waits is taken by its own state. One that is Running and waits with some of its task runs (a long retry,
a pause that a person has ended) keeps its state; the first of these task runs, by id, says who has it. Knows no loop
and no thread; whoever takes says what to do with what was won.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from flowherd.agent.claim_lock import claiming_alone
from flowherd.backends.protocol import Backend
from flowherd.errors import BackendUnavailable, ClaimLost
from flowherd.states import CLAIMABLE
from flowherd.values import FlowRun, StoredState, deciding_task_run
from flowherd_runner.contract import faults


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What became of claims that had got no answer; those of which it is still not known are in neither."""

    won: list[FlowRun] = field(default_factory=list)
    #: With the reason.
    lost: list[tuple[FlowRun, str]] = field(default_factory=list)


class Claims:
    """The claims of one agent."""

    def __init__(self) -> None:
        #: Those of which it is not known whether they were carried out, by flow run.
        self._uncertain: dict[str, FlowRun] = {}

    @property
    def uncertain(self) -> Collection[str]:
        """The flow runs whose claim is not settled."""
        return list(self._uncertain)

    def take(self, backend: Backend, flow_run: FlowRun, token: str, *, arbitrated: bool) -> None:
        """Take the flow run for the holder of `token`. A claim whose answer is lost is looked up.

        A backend that does not arbitrate is looked at before and after, one claim at a time on this host.

        Raises ClaimLost when another agent has it; BackendUnavailable when that cannot be known now, it is then
        `uncertain`; and whatever else the backend refuses with.
        """
        try:
            if arbitrated:
                _claim(backend, flow_run, token)
            else:
                _claim_alone(backend, flow_run, token)
        except BackendUnavailable:
            self._uncertain[flow_run.id] = flow_run
            raise
        except Exception:
            self._uncertain.pop(flow_run.id, None)
            raise
        self._uncertain.pop(flow_run.id, None)

    def settle(self, backend: Backend, token_of: Callable[[FlowRun], str], skip: Collection[str]) -> Settled:
        """Look up what is uncertain but for the runs in `skip`. A claim that did not arrive stays uncertain: it may
        still be under way. Raises BackendError."""
        settled = Settled()
        for flow_run in [one for one in self._uncertain.values() if one.id not in skip]:
            try:
                if not holds(backend, flow_run, token_of(flow_run)):
                    continue
                settled.won.append(flow_run)
            except ClaimLost as error:
                settled.lost.append((flow_run, str(error)))
            del self._uncertain[flow_run.id]
        return settled

    def forget(self, flow_run_id: str) -> None:
        """It is not asked any more what became of this claim."""
        self._uncertain.pop(flow_run_id, None)


def holds(backend: Backend, flow_run: FlowRun, token: str) -> bool:
    """Whether the backend holds the claim of `token`. Raises BackendError, ClaimLost among them when another has it."""
    stored = _stored(backend, flow_run)
    if stored is None:
        raise ClaimLost(f"flow run {flow_run.id} is gone")
    if stored.state in CLAIMABLE:
        return False
    if stored.claim != token:
        raise ClaimLost(f"flow run {flow_run.id} is {stored.state} and not ours")
    return True


def _stored(backend: Backend, flow_run: FlowRun) -> StoredState | None:
    """What says who has the flow run."""
    task_run = deciding_task_run(flow_run)
    if task_run is None:
        return backend.stored_states([flow_run.id]).get(flow_run.id)
    return backend.stored_task_states([task_run.id]).get(task_run.id)


def _claim(backend: Backend, flow_run: FlowRun, token: str) -> None:
    faults.point("before-claim")
    try:
        backend.claim(flow_run, token)
        faults.point("after-claim")
    except BackendUnavailable as error:
        if not holds(backend, flow_run, token):
            raise BackendUnavailable(f"no answer to the claim: {error}") from error


def _claim_alone(backend: Backend, flow_run: FlowRun, token: str) -> None:
    with claiming_alone(backend.address):
        holds(backend, flow_run, token)  # ClaimLost when it is no longer waiting
        _claim(backend, flow_run, token)
        if not holds(backend, flow_run, token):
            raise ClaimLost(f"the claim of flow run {flow_run.id} did not stay")
