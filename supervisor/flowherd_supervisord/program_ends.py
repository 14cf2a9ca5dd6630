"""What supervisord knows of the end of a program, and does not tell its event listeners.

The events that listeners get have neither exit code nor, for a program that ended too soon, a pid. In supervisord they
are attributes of the process while the event is sent (Subprocess.finish in supervisor/process.py), so a subscriber of
supervisord's own events (supervisor.events.subscribe) can note them. It changes nothing in supervisord.
"""

import collections
import threading
import time
from typing import Any, Deque, Dict, List, Tuple

from supervisor import events  # type: ignore[attr-defined]

#: Number of ends and starts that are kept; older ones are forgotten.
MOST_ENDS = 500
#: Starts and FATAL too, for their times: an event may reach its listener much later.
_NOTED = (
    events.ProcessStateRunningEvent,
    events.ProcessStateExitedEvent,
    events.ProcessStateStoppedEvent,
    events.ProcessStateBackoffEvent,
    events.ProcessStateFatalEvent,
)


class ProgramEnds:
    """The newest ends of programs."""

    def __init__(self) -> None:
        self._ends: Deque[Tuple[Any, Dict[str, Any]]] = collections.deque(maxlen=MOST_ENDS)

    def subscribe(self) -> None:
        """Take note of ends from now on; again after a reload of supervisord, which forgets all subscribers."""
        for kind in _NOTED:
            if (kind, self._take) not in events.callbacks:
                events.subscribe(kind, self._take)

    def since(self, serial: int, most: int = MOST_ENDS) -> List[Dict[str, Any]]:
        """Return the ends whose events have at least this serial number, the oldest first, `most` of them.

        Each has serial, at (when it happened, seconds since the epoch), program, group, pid (0 if it was never
        started), started (0 if not known), exit_code (-1: a signal; missing if it ended too soon) and spawn_error.
        """
        found = []
        for event, end in list(self._ends):
            # Listeners number an event when they take it, which may be after this subscriber has seen it.
            number = getattr(event, "serial", None)
            if isinstance(number, int) and number >= serial:
                found.append(dict(end, serial=number))
            if len(found) >= most:
                break
        return found

    def _take(self, event: Any) -> None:
        try:
            process, group = event.process, event.process.group
            code = process.exitstatus
            end = {
                "at": time.time(),
                "program": str(process.config.name),
                "group": str(process.config.name if group is None else group.config.name),
                "pid": int(process.pid or 0),
                "started": float(process.laststart or 0),
                "exit_code": code if isinstance(code, int) else None,
                "spawn_error": str(process.spawnerr or ""),
            }
            self._ends.append((event, end))
        except Exception:
            # An exception here would end supervisord's loop; the listener does without this end.
            pass


_LOCK = threading.Lock()
_ENDS_OF_THIS_PROCESS = ProgramEnds()


def program_ends() -> ProgramEnds:
    """Return what is noted in this supervisord; subscribes if that is not done. Called for each HTTP server."""
    with _LOCK:
        _ENDS_OF_THIS_PROCESS.subscribe()
    return _ENDS_OF_THIS_PROCESS
