"""Waits for news of the backend, in threads of its own.

Flow runs that come with the news are deployed in the thread that has heard of them: a change of thread would cost more
than the work. That can take long, for a fork server that is importing, so another thread waits for news meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from loguru import logger

from flowherd.agent.requests import Requests
from flowherd.errors import BackendError
from flowherd.values import Wake

#: How long the backend may hold a wake request, seconds; a broken connection is noticed after this time at the latest.
_WAIT_S = 20.0
#: Pause between tries to get a wake connection again, seconds.
_RETRY_S = 2.0
#: Minimum pause between two wakes that name no flow runs, seconds.
_PAUSE_S = 0.02


class NewsListener:
    """Calls `on_wake` for all news until `closing` is set or `is_refused`.

    `pause_s` returns how long the backend is not to be contacted, seconds. `on_end` is called at each thread's end.
    """

    def __init__(
        self,
        requests: Requests,
        on_wake: Callable[[Wake], None],
        closing: threading.Event,
        is_refused: Callable[[], bool],
        pause_s: Callable[[], float],
        on_end: Callable[[], None],
    ) -> None:
        self._requests = requests
        self._on_wake = on_wake
        self._closing = closing
        self._is_refused = is_refused
        self._pause_s = pause_s
        self._on_end = on_end
        #: Held by the thread that waits for news.
        self._waiting = threading.Lock()
        self._seen = 0
        self._has_second = False

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._listen, name="wake", daemon=True).start()

    def _listen(self) -> None:
        while (wake := self._next_offer()) is not None:
            self._pass_on(wake)
        self._on_end()

    def _next_offer(self) -> Wake | None:
        """Wait for news that names flow runs, and pass all other news on; None at the end."""
        with self._waiting:
            while not self._closing.is_set() and not self._is_refused():
                wake = self._next()
                if wake is None:
                    continue
                if wake.offered:
                    self._have_second()
                    return wake
                self._pass_on(wake)
                if wake.offered is None:
                    # A server whose number changes with every request must not keep this thread busy.
                    self._closing.wait(_PAUSE_S)
        return None

    def _next(self) -> Wake | None:
        """Wait once; return None if nothing has come."""
        try:
            wake = self._requests.wait_for_wake(self._seen, _WAIT_S)
        except Exception as error:  # this thread must not end before the agent
            level = "DEBUG" if isinstance(error, BackendError) else "WARNING"
            logger.log(level, "No wake connection, trying again: {!r}", error)
            self._closing.wait(max(_RETRY_S, self._pause_s()))
            return None
        if wake.sequence == self._seen or self._closing.is_set():
            return None
        self._seen = wake.sequence
        return wake

    def _have_second(self) -> None:
        if not self._has_second:
            try:
                self.start()
            except RuntimeError as error:  # no thread can be started now; this one waits again when it is done
                logger.debug("Only one thread waits for news: {}", error)
            else:
                self._has_second = True

    def _pass_on(self, wake: Wake) -> None:
        try:
            self._on_wake(wake)
        except Exception:  # as above
            logger.exception("Unexpected error after news from the backend; continuing")
