"""The network between agents and server: passes HTTP requests on, or cuts, delays and falsifies them.

What the server says of its lane is changed to a socket of the proxy's, whose bytes are passed on or cut, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

_HTML = b"<html><body>Sorry</body></html>"
_ANSWERS = {
    "503": b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "429": b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "HTML": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n"
    + b"Content-Length: %d\r\n\r\n%b" % (len(_HTML), _HTML),
}
#: refused: cut before the server has the request; abandoned: while it works on it; unanswered: after its answer.
_LANE_HEADER = b"x-flowherd-lane"
#: How many pieces in a row the lane carries between two faults, one in so many on average.
_LANE_PIECES = 5
KINDS = ("refused", "unanswered", "abandoned", "half an answer", "503", "HTML", "delay")


class Proxy:
    """Serves on `port` until closed. While faults are injected, about every third request has one."""

    def __init__(self, target_port: Callable[[], int], seed: int) -> None:
        self.injected: Counter[str] = Counter()
        self.port = 0
        self._target_port = target_port
        self._chosen = random.Random(f"{seed} proxy")
        self._injecting = False
        self._only: str | None = None
        self._tasks: set[asyncio.Task[object]] = set()
        self._directory = tempfile.TemporaryDirectory(prefix="flowherd-lane-")
        self._lane = Path(self._directory.name, "lane.sock")
        #: The server's lane, as its answers name it.
        self._target_lane = ""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="proxy", daemon=True)
        self._thread.start()
        assert self._ready.wait(10), "the proxy did not start"

    def inject(self, on: bool, only: str | None = None) -> None:
        """Inject faults from now on, of one kind or of all; or stop."""
        self._injecting, self._only = on, only

    def close(self) -> None:
        """Cut all connections and end."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._directory.cleanup()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._connection, "127.0.0.1", 0))
        lane = self._loop.run_until_complete(asyncio.start_unix_server(self._lane_connection, self._lane))
        self._lane.chmod(0o600)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        lane.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    def _fault(self) -> str | None:
        if not self._injecting or self._chosen.random() > 0.35:
            return None
        kind = self._only or self._chosen.choice(KINDS)
        self.injected[kind] += 1
        return kind

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream: asyncio.StreamWriter | None = None
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)  # asyncio itself keeps only weak references
        try:
            answers, upstream = await asyncio.open_connection("127.0.0.1", self._target_port())
            while request := await _message(reader):
                if not await self._pass_on(request, reader, answers, upstream, writer):
                    break
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # one side has closed, so the other is closed too
        finally:
            self._tasks.discard(task)
            for each in (writer, upstream):
                if each is not None:
                    each.close()
                    with contextlib.suppress(OSError):
                        await each.wait_closed()

    async def _pass_on(
        self,
        request: bytes,
        reader: asyncio.StreamReader,
        answers: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Pass one request on; return whether the connection may go on."""
        fault = self._fault()
        if fault == "refused":
            return False
        if fault in _ANSWERS:
            writer.write(_ANSWERS[fault])
            await writer.drain()
            return False
        if fault == "delay":
            await asyncio.sleep(self._chosen.uniform(0.1, 1.5))
        upstream.write(request)
        await upstream.drain()
        if fault == "abandoned":
            return False
        answer = self._with_own_lane(await _message(answers))
        if fault == "unanswered":
            return False
        if fault == "half an answer":
            writer.write(answer[: self._chosen.randrange(len(answer))] if answer else b"")
            await writer.drain()
            return False
        writer.write(answer)
        await writer.drain()
        if answer.startswith(b"HTTP/1.1 101 "):
            await self._tunnel((reader, upstream), (answers, writer))
            return False
        return bool(answer)

    async def _tunnel(self, *ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        """Pass the bytes of a websocket on, until one side closes it or a fault does."""
        tasks = [asyncio.ensure_future(self._carry(*way)) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _with_own_lane(self, answer: bytes) -> bytes:
        """Put the proxy's own lane into the head of an answer that names the server's."""
        head, end, body = answer.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        for number, line in enumerate(lines):
            name, _, value = line.partition(b":")
            if name.lower() == _LANE_HEADER:
                self._target_lane = value.strip().decode()
                lines[number] = name + b": " + str(self._lane).encode()
        return b"\r\n".join(lines) + end + body

    async def _lane_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        upstream: asyncio.StreamWriter | None = None
        try:
            answers, upstream = await asyncio.open_unix_connection(self._target_lane)
            ways = [self._carry_lane(reader, upstream), self._carry_lane(answers, writer)]
            tasks = [asyncio.ensure_future(way) for way in ways]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        except OSError:
            pass  # the server is away
        finally:
            self._tasks.discard(task)
            for each_writer in (writer, upstream):
                if each_writer is not None:
                    each_writer.close()

    async def _carry_lane(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Pass bytes on until one side closes; with a fault, cut the lane before, in the middle of or after some."""
        while data := await source.read(65536):
            # With faults of one kind of request there is no lane, so that there are requests.
            cut = self._injecting and (self._only is not None or self._chosen.randrange(_LANE_PIECES) == 0)
            if cut:
                self.injected["lane cut"] += 1
                data = data[: self._chosen.choice((0, self._chosen.randrange(len(data)), len(data)))]
            sink.write(data)
            await sink.drain()
            if cut:
                return

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            if self._fault() is not None:
                return
            sink.write(data)
            await sink.drain()


async def _message(reader: asyncio.StreamReader) -> bytes:
    """Read one HTTP message, empty at the end of the connection. Both sides send the length of their bodies."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return head + await reader.readexactly(length)
