"""What runners say of the ends of their runs, before they have ended themselves: a hint to look at exit.json now."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from flowherd.host.processes.hand_over import HandOver

#: Number of runners that are listened to; of more, those that were started last, because long runs gain nothing.
MOST_HEARD = 64


class EndHints:
    """The runners that are listened to, by run; for one thread.

    All that is heard may be missing, because a runner of an earlier agent, or one that had to kill, says nothing. Its
    end is noticed then.
    """

    def __init__(self) -> None:
        self._heard: dict[str, HandOver] = {}

    def listen(self, run_id: str, handed: HandOver) -> None:
        """Listen to the runner of a run whose start is known, if it can say anything."""
        if not handed.is_open:
            return
        while len(self._heard) >= MOST_HEARD:
            self.forget(next(iter(self._heard)))
        self._heard[run_id] = handed

    def descriptors(self) -> Iterable[int]:
        """Return what is readable when there is something to be heard."""
        return [handed.fileno() for handed in self._heard.values()]

    def ended(self, readable: Collection[int]) -> set[str]:
        """Return the runs that have ended, as heard through these descriptors."""
        found = set()
        for run_id, handed in [(run_id, one) for run_id, one in self._heard.items() if one.fileno() in readable]:
            heard = handed.hears_end()
            if heard:
                found.add(run_id)
            if heard is not None:
                self.forget(run_id)
        return found

    def forget(self, run_id: str) -> None:
        """Listen no more, if that is done, to the runner of this run."""
        if (handed := self._heard.pop(run_id, None)) is not None:
            handed.close()

    def close(self) -> None:
        """Listen to none any more."""
        for run_id in list(self._heard):
            self.forget(run_id)
