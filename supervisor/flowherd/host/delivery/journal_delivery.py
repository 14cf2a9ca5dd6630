"""Sends long journals to a backend that takes their bytes: nothing is parsed here, and no answer is waited for alone.

What is left, up to some kilobytes, goes as lines with the states that follow it (log_delivery.py), and so does what the
backend refuses as bytes: there each line is judged by itself.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import BinaryIO

from flowherd.agent.connection import Connection
from flowherd.errors import BackendRefused, NotAuthorized
from flowherd.host.run import Run
from flowherd.values import JournalPiece
from flowherd_runner.contract import faults
from flowherd_runner.contract.files import open_regular
from flowherd_runner.contract.journal import whole_records

#: A run with less than this to send, bytes, is left to the lines.
_LONG_BYTES = 16 * 1024
#: Largest part of one run's journal in one request, bytes: more than the largest record.
_PIECE_BYTES = 512 * 1024
#: Size of all pieces of a request, bytes, from which on none is added.
_REQUEST_BYTES = 512 * 1024
#: Size of all requests, bytes, after which reports and heartbeats have their turn.
_ROUND_BYTES = 8 * 1024 * 1024


class JournalDelivery:
    """Delivers the journals of runs as bytes, as far as the backend takes them; for one thread."""

    def __init__(self, connection: Connection) -> None:
        self._requests = connection.requests
        self._tally = connection.measures.tally
        #: Requests without an answer yet.
        self._sent: deque[Sequence[tuple[Run, JournalPiece]]] = deque()
        #: Offsets up to which journals go as lines, by run id.
        self._as_lines: dict[str, int] = {}
        #: Ids of the runs of whose journals this round has sent something.
        self._advanced: set[str] = set()

    def deliver(self, unsent: Mapping[Run, int]) -> bool:
        """Send what is new in long journals. Returns whether anything was sent. Raises BackendError.

        `unsent` is how much of each journal the backend does not have, bytes.
        """
        self._advanced.clear()
        runs = [run for run, size in unsent.items() if size >= _LONG_BYTES and self._goes_as_bytes(run)]
        if not runs:
            return False
        self._sent.clear()
        try:
            with ExitStack() as files:
                faults.point("before-write-logs")
                return self._requests.write_journals(self._pieces(runs, files), self._stored)
        except NotAuthorized:
            raise
        except BackendRefused as error:
            for run, piece in self._sent[0] if self._sent else ():
                run.log.debug("The backend does not take the journal from {}: {}", piece.offset, error)
                self._as_lines[run.id] = piece.end
            return True

    def goes_on(self, run: Run) -> bool:
        """Return whether the next round has more of a run's journal to send as bytes, so that none of it goes as lines.

        Only if this round has sent some: else what is left may be a record whose end never comes.
        """
        if run.id not in self._advanced or run.directory.unsent_bytes() < _LONG_BYTES:
            return False
        return self._goes_as_bytes(run)

    def forget(self, run: Run) -> None:
        """Drop what is remembered of a delivered run."""
        self._as_lines.pop(run.id, None)

    def _goes_as_bytes(self, run: Run) -> bool:
        return run.directory.forwarded() >= self._as_lines.get(run.id, 0)

    def _pieces(self, runs: Sequence[Run], files: ExitStack) -> Iterator[Sequence[JournalPiece]]:
        """Return the pieces of each request, while there are any; later ones go on where earlier ones have ended."""
        journals = [_Journal(run, files) for run in runs]
        room = _ROUND_BYTES
        while room > 0:
            pieces: list[tuple[Run, JournalPiece]] = []
            size = 0
            for journal in journals:
                piece = journal.next_piece() if size < _REQUEST_BYTES else None
                if piece is not None:
                    pieces.append((journal.run, piece))
                    size += len(piece.data)
            if not pieces:
                break
            # The one that comes last has waited for the longest time.
            journals = [*journals[len(pieces) :], *journals[: len(pieces)]]
            room -= size
            self._sent.append(pieces)
            yield [piece for _, piece in pieces]
        for journal in journals:
            if journal.is_damaged:
                self._as_lines[journal.run.id] = journal.offset + 1

    def _stored(self, ends: Sequence[int]) -> None:
        """Note how far the backend has the journals of the oldest request."""
        faults.point("before-forwarded")
        for (run, piece), end in zip(self._sent.popleft(), ends, strict=True):
            run.directory.set_forwarded(end)
            self._tally.add("flowherd_lines_out_total", by=piece.lines)
            self._advanced.add(run.id)
            faults.point("after-forwarded")


class _Journal:
    """One run's journal while it is sent."""

    def __init__(self, run: Run, files: ExitStack) -> None:
        self.run = run
        self.offset = run.directory.forwarded()
        #: Whether there are bytes that begin no record.
        self.is_damaged = False
        self._is_certain = True
        self._file: BinaryIO | None = None
        try:
            self._file = files.enter_context(os.fdopen(open_regular(str(run.directory.journal), os.O_RDONLY), "rb"))
            run.delivering.recovered()
        except (OSError, ValueError) as error:
            run.delivering.failed(error)

    def next_piece(self) -> JournalPiece | None:
        """Read the next whole records; None if there are none now."""
        if self._file is None:
            return None
        try:
            data = os.pread(self._file.fileno(), _PIECE_BYTES, self.offset)
        except OSError as error:
            self.run.delivering.failed(error)
            return None
        size, lines = whole_records(data)
        if not size:
            self.is_damaged = len(data) == _PIECE_BYTES
            return None
        piece = JournalPiece(self.run.id, self.run.attempt, self.offset, data[:size], self._is_certain, lines)
        self.offset += size
        self._is_certain = False
        return piece
