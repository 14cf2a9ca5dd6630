"""The way into a server that may get a token while it works."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send


class Door:
    """An application that is replaced by another one when the server gets a token.

    `make` makes it for a token, in the event loop. Requests that are under way are still answered by the one before.
    """

    def __init__(self, make: Callable[[str], ASGIApp], token: str) -> None:
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._app = make(token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def close(self, token: str) -> None:
        """Let in only those who have this token, from now on. For any thread."""
        self._loop.call_soon_threadsafe(self._close, token)

    def _close(self, token: str) -> None:
        self._app = self._make(token)
