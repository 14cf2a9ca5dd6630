"""Waiting for the ends of one or of many runs, also while the server is away."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence

from flowherd.client.queries import batches
from flowherd.client.run_end import EndWait
from flowherd.client.runs import RunSummary
from flowherd.client.user_client import UserClient
from flowherd.errors import BackendUnavailable, NotFound

#: Pause between two looks at all runs, seconds, if the server tells the end of one of them.
_TOLD_POLL_S = 1.0
#: The same if it does not.
_POLL_S = 0.25
#: How long to wait for a server that does not answer, seconds.
PATIENCE_S = 120.0


def ends_of(
    client: UserClient,
    run_ids: Sequence[str],
    *,
    timeout_s: float | None = None,
    on_silence: Callable[[BackendUnavailable], None] = lambda _error: None,
) -> Generator[RunSummary, None, None]:
    """Yield each run as it ends, until all have ended or `timeout_s` is over.

    While the server does not answer it is waited for, and `on_silence` is called once. Raises BackendUnavailable after
    120 s of that, NotFound if one of the runs does not exist or was deleted.
    """
    wait = _Wait(client, run_ids, on_silence)
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    try:
        while True:
            yield from wait.look()
            left_s = None if deadline_s is None else deadline_s - time.monotonic()
            if wait.is_over or (left_s is not None and left_s <= 0):
                return
            yield from wait.pause(left_s)
    finally:
        wait.close()


class _Wait:
    def __init__(
        self, client: UserClient, run_ids: Sequence[str], on_silence: Callable[[BackendUnavailable], None]
    ) -> None:
        self._client = client
        self._on_silence = on_silence
        #: The runs that have not ended, in the order in which they were given.
        self._left = dict.fromkeys(run_ids)
        #: The wait for the end of the first of them.
        self._first: EndWait | None = None
        self._first_id = ""
        self._silent_since_s: float | None = None

    @property
    def is_over(self) -> bool:
        return not self._left

    def look(self) -> list[RunSummary]:
        """Return the runs that have ended, by asking the server; none while it does not answer."""
        try:
            ended = self._ended()
        except BackendUnavailable as error:
            if self._silent_since_s is None:
                self._silent_since_s = time.monotonic()
                self._on_silence(error)
            if time.monotonic() - self._silent_since_s > PATIENCE_S:
                raise
            return []
        self._silent_since_s = None
        return self._taken(ended)

    def pause(self, longest_s: float | None) -> list[RunSummary]:
        """Wait until it is time to look again; return the first run if its end is told meanwhile."""
        if self._first is None or self._first_id not in self._left:
            self.close()
            self._first_id = next(iter(self._left))
            self._first = self._client.end_of(self._first_id)
        pause_s = _TOLD_POLL_S if self._first.is_told else _POLL_S
        end = self._first.wait(pause_s if longest_s is None else min(pause_s, longest_s))
        return [] if end is None else self._taken([end])

    def close(self) -> None:
        if self._first is not None:
            self._first.close()

    def _ended(self) -> list[RunSummary]:
        ended: list[RunSummary] = []
        for wanted in batches(list(self._left)):
            known = {run.id: run for run in self._client.runs.summaries(wanted)}
            gone = [run_id for run_id in wanted if run_id not in known]
            if gone:
                address = self._client.address
                raise NotFound(f"there is no run {gone[0]} at {address}; it may have been deleted or pruned")
            ended += [known[run_id] for run_id in wanted if known[run_id].finished]
        return ended

    def _taken(self, ended: list[RunSummary]) -> list[RunSummary]:
        for run in ended:
            del self._left[run.id]
        return ended
