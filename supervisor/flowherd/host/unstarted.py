"""The runs of this host that are written down and whose runner was not started yet, and their starts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from flowherd.agent.platform import Prepared
from flowherd.errors import AgentStopping
from flowherd.host.intent import Intent
from flowherd.host.processes.fork_server_pool import ForkServers
from flowherd.host.processes.hand_over import HandOver
from flowherd.host.run import Run
from flowherd.host.second_start import second_intent
from flowherd.host.start import hand_over_ahead, start
from flowherd.host.watch import Watcher
from flowherd_runner.contract import faults

#: So many lost claims that no runner prepares before the claim any more: it would mostly do so for nothing.
_MAX_LOST_CLAIMS = 4
#: How long a runner may wait for the claim of its run, seconds; a lost answer may take long to be looked up.
_MAX_WAIT_S = 30.0


class UnstartedRuns:
    """Intents by flow run id; the watcher learns of each start. Usable from several threads."""

    def __init__(self, fork_servers: Callable[[], ForkServers], watcher: Callable[[], Watcher]) -> None:
        self._fork_servers = fork_servers
        self._watcher = watcher
        self._intents: dict[str, Intent] = {}
        #: Ids of the runs whose start is under way.
        self._starting: set[str] = set()
        self._closing = False
        #: Lost claims that were not made up for by won ones.
        self._lost_claims = 0
        self._lock = threading.Lock()

    def __contains__(self, flow_run_id: object) -> bool:
        return flow_run_id in self._intents

    def add(self, intent: Intent) -> Intent:
        """Add a run, and return its intent."""
        self._intents[intent.run.id] = intent
        return intent

    def add_ahead(self, intent: Intent) -> None:
        """Add a run and have a runner prepare it before it is claimed, unless many claims were lost lately."""
        self.add(intent)
        faults.point("after-intent")
        if not self._closing and self._lost_claims < _MAX_LOST_CLAIMS:
            hand_over_ahead(intent, self._fork_servers())

    def withdraw_waiting(self) -> None:
        """End the runners that have waited too long for their claim; the runs can still be started."""
        for intent in list(self._intents.values()):
            ahead = intent.ahead
            if ahead is not None and ahead.handed.age_s > _MAX_WAIT_S:
                intent.withdraw()

    def abandon(self, flow_run_id: str) -> None:
        """Forget a run that is not ours after all, and remove its directory."""
        if (intent := self.take(flow_run_id)) is not None:
            self._lost_claims = min(self._lost_claims + 1, 2 * _MAX_LOST_CLAIMS)
            intent.cancel()

    def get(self, flow_run_id: str) -> Intent | None:
        """Return the intent of a run; None if it was started, or is not known."""
        return self._intents.get(flow_run_id)

    def take(self, flow_run_id: str) -> Intent | None:
        """Remove a run and return its intent."""
        return self._intents.pop(flow_run_id, None)

    def prepared(self) -> Sequence[Prepared]:
        """Return all of them in the words of the agent."""
        return [
            Prepared(
                flow_run_id=intent.run.id,
                claim=intent.run.claim,
                claimed_via_task_run=intent.run.claimed_via_task_run,
                by_earlier_agent=intent.by_earlier_agent,
            )
            for intent in list(self._intents.values())
        ]

    def start(self, intent: Intent) -> int | None:
        """Start the runner as `start.start` does. Raises AgentStopping after `begin_closing`."""
        run_id = intent.run.id

        def handed_over(run: Run, handed: HandOver | None) -> None:
            del self._intents[run_id]
            self._lost_claims = max(0, self._lost_claims - 1)
            self._watcher().expect(run, handed)

        with self._lock:
            if self._closing:
                raise AgentStopping("the agent was stopped before the flow run could be started")
            self._starting.add(run_id)
        try:
            return start(intent, self._fork_servers(), handed_over)
        finally:
            self._starting.discard(run_id)

    def start_again(
        self, run: Run, watch: Callable[[Run], None], changed: Callable[[], None], clear: Callable[[str], None]
    ) -> bool:
        """Start the directory of a delivered run a second time, in a thread, if the run's engine wants that.

        Return whether it is. `watch` is called with the second run, `changed` when that has something for the backend.
        `clear` is called in the thread with the run's id, to clear what is left of its first start: later, that would
        end the second one, which has the same cgroup.
        """
        intent = None if self._closing else second_intent(run, changed)
        if intent is None:
            return False
        intent.run.begin_start()
        watch(intent.run)
        threading.Thread(target=self._start_second, args=(intent, clear), name="second-start", daemon=True).start()
        return True

    def _start_second(self, intent: Intent, clear: Callable[[str], None]) -> None:
        try:
            clear(intent.run.id)
            start(intent, self._fork_servers(), self._watcher().expect)
        except Exception as error:  # the boundary of one run
            intent.release()
            intent.run.fail_to_start(error)
            self._watcher().wake()

    def begin_closing(self) -> None:
        """Start no more runs."""
        with self._lock:
            self._closing = True

    def given_up(self) -> list[Run]:
        """Return the runs whose start is not under way; to be called after `begin_closing`."""
        return [intent.run for run_id, intent in list(self._intents.items()) if run_id not in self._starting]

    def release(self) -> None:
        """Let their locks go, so that the next agent can take them."""
        for intent in list(self._intents.values()):
            intent.release()
        self._intents.clear()
