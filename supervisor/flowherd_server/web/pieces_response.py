"""An HTTP answer whose body is in pieces, which are sent as fast as the client reads them."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send


class PiecesResponse(Response):
    """A JSON answer. One large body would be copied once for each of the many parts in which the client takes it."""

    media_type = "application/json"

    def __init__(self, status: int, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces
        super().__init__(None, status, {"Content-Length": str(sum(map(len, pieces)))})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for piece in self._pieces[:-1]:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": self._pieces[-1]})
