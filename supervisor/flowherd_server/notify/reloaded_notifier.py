"""The server's notifications over reloads: each time the settings change, a new notifier goes on where one stopped."""

from __future__ import annotations

import threading

from flowherd_server.call import Effects
from flowherd_server.notify.found import Sources
from flowherd_server.notify.notifier import Notifier, NotifyOptions
from flowherd_server.store.database import Database


class ReloadedNotifier:
    """The notifier of one server. What one has not delivered when it stops, the next one delivers."""

    def __init__(self, database: Database, options: NotifyOptions, sources: Sources) -> None:
        self._database = database
        self._sources = sources
        self._notifier = Notifier(database, options, sources)
        self._lock = threading.Lock()
        #: The address of the server itself, while notifications are sent.
        self._page: str | None = None

    def start(self, page: str) -> None:
        """Start. `page` is the address of the server itself."""
        with self._lock:
            self._page = page
            self._notifier.start(page)

    def use(self, options: NotifyOptions) -> None:
        """Use other rules and channels from now on."""
        with self._lock:
            if self._page is not None:
                self._notifier.stop()
            self._notifier = Notifier(self._database, options, self._sources)
            if self._page is not None:
                self._notifier.start(self._page)

    def stop(self) -> None:
        """Stop. What is not delivered waits for the next start."""
        with self._lock:
            self._page = None
            self._notifier.stop()

    def announce(self, effects: Effects) -> None:
        """Look now, if something has ended that may be notified. For any thread, after each commit."""
        self._notifier.announce(effects)
