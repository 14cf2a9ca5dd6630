"""Log lines for a backend that takes only whole lines: no text so far, except what has stood for a minute."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from flowherd.values import LogLine


class WholeLines:
    """Turns standing text so far into lines, and leaves out a finished line that says no more than such a line.

    What was given is remembered only once `commit` is called, because a request that fails is made again.
    """

    def __init__(self) -> None:
        #: The text that was given as a line and not finished yet, by run id and stream.
        self._given: dict[tuple[str, str], str] = {}
        self._next = self._given

    def of(self, lines: Iterable[LogLine]) -> list[LogLine]:
        """Return the whole lines that stand for `lines`, which are in order."""
        self._next = dict(self._given)
        return [replace(line, so_far=False, standing=False) for line in lines if self._is_due(line)]

    def commit(self) -> None:
        """Remember that the backend has what `of` returned last."""
        self._given = self._next

    def forget(self, run_id: str) -> None:
        """Drop what is remembered of a run."""
        self._given = {key: text for key, text in self._given.items() if key[0] != run_id}

    def _is_due(self, line: LogLine) -> bool:
        key = (line.flow_run_id, line.stream)
        if line.so_far:
            if line.standing:
                self._next[key] = line.message
            return line.standing
        return self._next.pop(key, None) != line.message
