"""What has changed, for pages that are open: topics, handed on after each commit. Nothing is done while nobody listens.

| topic | what has changed |
| --- | --- |
| `runs`, `run:ID` | a run was created, has another state, name or labels, or is gone |
| `logs`, `log:ID` | lines of a run, or what it has written of an unfinished one |
| `flows` | a flow was registered, archived or deleted, or its schedule or settings have changed |
| `agents` | an agent has reported, while somebody watches |
| `figures`, `figures:ID` | a running run uses something else than before, while somebody watches |

Whether an agent is away is a matter of time, so pages are also looked at again every few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable

from flowherd_server.call import Effects

#: Mutations that change flows.
_CHANGE_FLOWS = frozenset({"create_flow", "archive_flow", "delete_flow", "delete_project", "apply_flows"})


class ChangeFeed:
    """Those who listen. Must be made in the event loop, in which they are called; `announce` is for any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._listeners: dict[str, list[Callable[[], None]]] = {}
        #: Called when the server stops, in the event loop.
        self.on_close: list[Callable[[], None]] = []

    def listen(self, topics: Iterable[str], notify: Callable[[], None]) -> None:
        """Have `notify` called in the event loop after each change of one of these topics."""
        with self._lock:
            for topic in topics:
                self._listeners.setdefault(topic, []).append(notify)

    def leave(self, topics: Iterable[str], notify: Callable[[], None]) -> None:
        """Have it called no longer."""
        with self._lock:
            for topic in topics:
                left = self._listeners.get(topic, [])
                if notify in left:
                    left.remove(notify)
                if not left:
                    self._listeners.pop(topic, None)

    def close(self) -> None:
        """Have those who listen end."""
        for each in self.on_close:
            each()

    def announce(self, effects: Effects) -> None:
        """Tell those whom a change concerns, which is stored."""
        if self._listeners:
            self.changed(_topics(effects))

    def carried_out(self, operation: str) -> None:
        """Tell those whom a mutation concerns, by its name."""
        if self._listeners and (operation in _CHANGE_FLOWS or "flow_group" in operation or "schedule" in operation):
            self.changed(("flows",))

    def reported(self, run_ids: Iterable[str]) -> None:
        """Tell those whom an agent's report concerns, in which the figures of these runs have changed."""
        if self._listeners:
            figures = [f"figures:{run_id}" for run_id in run_ids]
            self.changed(["agents", *(["figures"] if figures else []), *figures])

    def changed(self, topics: Iterable[str]) -> None:
        """Tell those who listen to one of these topics."""
        if not self._listeners:
            return
        with self._lock:
            found = {notify: None for topic in topics for notify in self._listeners.get(topic, ())}
        for notify in found:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(notify)


def _topics(effects: Effects) -> Iterable[str]:
    if effects.runs:
        yield "runs"
        yield from (f"run:{run_id}" for run_id in effects.runs)
    if effects.logged:
        yield "logs"
        yield from (f"log:{run_id}" for run_id in effects.logged)
    if effects.schedules:
        yield "flows"
