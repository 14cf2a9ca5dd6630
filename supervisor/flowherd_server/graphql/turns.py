"""Large answers stand back for others: they are made one at a time, piece by piece, with pauses for what is under way.

Python runs one thread at a time, and a thread that works on a large answer would take every second turn from a claim or
a batch of log lines, each of which waits for its turn many times.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

#: Rows that are read and written in one piece, some milliseconds' work.
PIECE_ROWS = 100
#: Pause between two pieces while other requests are under way, seconds: about what a batch of log lines takes.
_PAUSE_S = 0.003


class Turns:
    """The requests that are under way. For worker threads."""

    def __init__(self) -> None:
        self._counting = threading.Lock()
        self._under_way = 0
        self._large = 0
        self._making = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """Count one request in for the block."""
        turn = Turn(self)
        self._count(under_way=1)
        try:
            yield turn
        finally:
            self._count(under_way=-1, large=-1 if turn.is_large else 0)
            if turn.is_large:
                self._making.release()

    def wait_to_make(self) -> None:
        """Wait until no other large answer is being made."""
        self._count(large=1)
        self._making.acquire()

    def stand_back(self) -> None:
        """Pause if there are requests other than those for large answers."""
        if self._under_way > self._large:
            time.sleep(_PAUSE_S)

    def _count(self, under_way: int = 0, large: int = 0) -> None:
        with self._counting:
            self._under_way += under_way
            self._large += large


class Turn:
    """One request's part in it."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        #: Whether its answer has more than one piece.
        self.is_large = False

    def next_piece(self) -> None:
        """Call this between two pieces of an answer."""
        if not self.is_large:
            self._turns.wait_to_make()
            self.is_large = True
        self._turns.stand_back()
