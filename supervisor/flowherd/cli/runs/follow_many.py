"""The logs of several runs as they grow, in one: those of given runs, or of all runs of a flow."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from flowherd.cli.runs.follow import Emit, GrowingLog, Line
from flowherd.cli.runs.silence import Silence
from flowherd.client.runs import RunSummary
from flowherd.errors import BackendUnavailable

#: Pause between two looks, seconds, and what each log that is followed adds to it.
_POLL_S = 0.25
_POLL_PER_LOG_S = 0.05


def follow_many(
    look: Callable[[Collection[str]], Sequence[RunSummary]],
    open_log: Callable[[RunSummary, bool], GrowingLog],
    emit: Emit,
    silence: Silence,
    *,
    is_endless: bool,
) -> None:
    """Emit the lines of several logs as they come, ordered by their times as far as they come together.

    `look` returns the runs as they are now; it is given the ids of those that have not ended yet. `open_log` is also
    given whether the run was found at the first look. Returns when all have ended, unless it `is_endless`. Raises what
    Silence raises.
    """
    is_first = True
    followed: dict[str, GrowingLog] = {}
    ended: set[str] = set()
    while True:
        lines: list[Line] = []
        try:
            # The states are read before the logs, so a final state without more lines is the end.
            found = {run.id: run for run in look(followed.keys() - ended)}
            ended |= followed.keys() - found.keys()  # deleted
            for run in found.values():
                if run.id in ended:
                    continue
                log = followed.get(run.id) or followed.setdefault(run.id, open_log(run, is_first))
                log.emit_new(lines.extend)
                log.emit_from_journal(lines.extend, finished=run.finished)
                if run.finished:
                    ended.add(run.id)
            silence.end()
            is_first = False
        except BackendUnavailable as error:
            silence.go_on(error)
        finally:
            emit(sorted(lines, key=lambda line: line.at))
        going = len(followed) - len(ended)
        if followed and not going and not is_endless:
            return
        time.sleep(_POLL_S + going * _POLL_PER_LOG_S)
