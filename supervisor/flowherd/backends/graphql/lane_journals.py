"""Sends the bytes of journals over the lane, some requests ahead of the answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from flowherd.backends import json_values
from flowherd.backends.decoding import decoding
from flowherd.backends.graphql.lane_pool import LanePool
from flowherd.lane.client import LaneClient
from flowherd.values import JournalPiece

_REPORT = "report"
#: Number of requests that are sent before the answer to the first of them is waited for.
_AHEAD = 3


def send_journals(
    pool: LanePool, requests: Iterable[Sequence[JournalPiece]], stored: Callable[[Sequence[int]], None]
) -> bool:
    """Store pieces of journals, as `JournalBackend.write_journals` does."""
    is_sent = False
    with pool.requests(_REPORT) as lane:
        if lane is None:
            return False
        waiting: deque[int] = deque()
        for pieces in requests:
            waiting.append(_send(lane, pieces))
            if len(waiting) >= _AHEAD:
                stored(_ends(lane, waiting.popleft()))
            is_sent = True
        while waiting:
            stored(_ends(lane, waiting.popleft()))
        return is_sent
    return False  # GraphQL has to be asked


def _send(lane: LaneClient, pieces: Sequence[JournalPiece]) -> int:
    journals = [
        {
            "flow_run_id": piece.flow_run_id,
            "attempt": piece.attempt,
            "offset": piece.offset,
            "size": len(piece.data),
            "certain": piece.is_certain,
        }
        for piece in pieces
    ]
    return lane.send(_REPORT, b"".join([piece.data for piece in pieces]), journals=journals)


def _ends(lane: LaneClient, request_id: int) -> list[int]:
    with decoding("the ends of the journals", "the server's lane"):
        return [json_values.integer(end) for end in json_values.sequence(lane.answer_to(request_id).head["journals"])]
