"""Storing the logs of runs from the bytes of their journals, which agents on the server's host send over the lane."""

from __future__ import annotations

from collections.abc import Sequence

from flowherd.journal_content import record_content
from flowherd_runner.contract.journal import STREAM_NAMES
from flowherd_server.call import Call
from flowherd_server.mutations.texts_so_far import TextSoFar, delete_finished, replace_texts
from flowherd_server.store.journal_lines import Found, Piece, standard_level, store_piece
from flowherd_server.store.log_codes import LEVEL_NAMES
from flowherd_server.store.row_lookup import numbers_of
from flowherd_server.store.tables import FLOW_RUN


def write_journals(call: Call, pieces: Sequence[Piece]) -> list[int]:
    """Store the lines of pieces of journals. Returns where the whole records of each piece end.

    Raises Refused if a run or task run does not exist, and as `store_piece` does.
    """
    runs = numbers_of(call.connection, FLOW_RUN, {piece.flow_run_id for piece in pieces})
    ends = []
    for piece in pieces:
        found = store_piece(call.connection, runs[piece.flow_run_id], piece)
        _keep_so_far(call, piece.flow_run_id, found)
        ends.append(found.end)
        call.effects.lines += found.lines
    call.effects.logged |= runs.keys()
    return ends


def _keep_so_far(call: Call, run_id: str, found: Found) -> None:
    texts = []
    for stream, record in found.so_far.items():
        content = record_content(stream, record.payload)
        level = LEVEL_NAMES[standard_level(stream, record.level)]
        name = STREAM_NAMES.get(stream, "log")
        texts.append(TextSoFar(run_id, name, record.time_ns // 1000, content.logger, level, content.message))
    replace_texts(call.connection, texts)
    finished = {(run_id, STREAM_NAMES.get(stream, "log")): at for stream, at in found.finished.items()}
    delete_finished(call.connection, finished)
