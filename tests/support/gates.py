"""What may stand between an agent and its server: a gate with TLS, a path of its own or a key, and a forward proxy."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.support.certificates import Certificates

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_OF_CONNECTION = re.compile(
    rb"(?<=\r\n)(host|connection|proxy-connection|proxy-authorization):[^\r]*\r\n", re.IGNORECASE
)


@dataclass
class Gate:
    """How a gate or proxy in front of a server on this host answers; `seen` is what it has passed on."""

    #: Port of the server.
    target: int
    #: Path at which the gate has the server.
    prefix: str = ""
    #: The only path that it knows; empty for all.
    knows: str = ""
    #: Headers without which it refuses.
    needs: Mapping[str, str] = field(default_factory=dict)
    #: Status and page that it gives for every request in place of the server.
    refuses: tuple[str, str] | None = None
    #: Where it redirects every request to.
    moves_to: str = ""
    #: Certificates; with None it does not use TLS.
    certificates: Certificates | None = None
    #: Whether it wants a certificate of the client.
    asks_client: bool = False
    host: str = "127.0.0.1"
    port: int = 0
    #: The first line of each request.
    seen: list[str] = field(default_factory=list)

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one connection, which has one request."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            refusal = self._refusal(head)
            if refusal is None:
                await self._pass_on(head, reader, writer)
            else:
                length = _CONTENT_LENGTH.search(head)
                await reader.readexactly(int(length[1]) if length else 0)
                writer.write(refusal)
                await writer.drain()
        writer.close()

    def _refusal(self, head: bytes) -> bytes | None:
        status, page = self.refuses or ("", "")
        if self.knows and head.split(b" ")[1].decode("latin-1") != self.knows:
            status, page = "404 Not Found", "<html>Where?</html>"
        headers = head.decode("latin-1").lower()
        if not self.refuses and not all(
            f"\r\n{name}: {value}\r\n".lower() in headers for name, value in self.needs.items()
        ):
            is_proxy = "proxy-authorization" in map(str.lower, self.needs)
            status, page = ("407 Proxy Authentication Required" if is_proxy else "403 Forbidden"), "<html>Who?</html>"
        if self.moves_to:
            moved = f"HTTP/1.1 307 Moved\r\nLocation: {self.moves_to}\r\n"
            return f"{moved}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()
        if not status:
            return None
        kind = "text/html" if page.startswith("<") else "application/json"
        length = f"Content-Type: {kind}\r\nContent-Length: {len(page)}\r\nConnection: close\r\n\r\n{page}"
        return f"HTTP/1.1 {status}\r\n{length}".encode()

    async def _pass_on(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, _, rest = head.partition(b"\r\n")
        method, target, version = first.decode("latin-1").split(" ")
        self.seen.append(first.decode("latin-1"))
        answers, upstream = await asyncio.open_connection("127.0.0.1", self.target)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            path = urlsplit(target)._replace(scheme="", netloc="").geturl() or "/"
            if self.prefix:
                assert path.startswith(self.prefix), path
                path = path[len(self.prefix) :] or "/"
            kept = _OF_CONNECTION.sub(b"", b"\r\n" + rest)[2:]
            connection = b"Upgrade" if b"upgrade: websocket" in head.lower() else b"close"
            added = b"Host: 127.0.0.1:%d\r\nConnection: %b\r\n" % (self.target, connection)
            upstream.write(f"{method} {path} {version}\r\n".encode("latin-1") + added + kept)
        await asyncio.gather(_carry(reader, upstream), _carry(answers, writer))


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass  # one side has closed, so the other is closed too
    finally:
        sink.close()


@contextmanager
def standing(gate: Gate) -> Iterator[Gate]:
    """Let a gate stand until the end of the block; its port is in `port`."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(gate.connection, gate.host, 0, ssl=_context(gate)))
    gate.port = int(server.sockets[0].getsockname()[1])
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield gate
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.run_until_complete(_end(asyncio.all_tasks(loop)))
        loop.close()


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _context(gate: Gate) -> ssl.SSLContext | None:
    if gate.certificates is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(gate.certificates.server)
    if gate.asks_client:
        context.load_verify_locations(gate.certificates.authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
