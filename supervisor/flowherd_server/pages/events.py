"""`GET /events?view=ADDRESS`: what changes on a page that is open, as server-sent events (HTML, section 9.2).

| event | data |
| --- | --- |
| `state` | the versions of all parts, by their ids, once at first: whoever has others fetches the page anew |
| `part` | a part that has changed: `id`, `html`, and for one that may be new `into` and `after` |
| `gone` | the id of a part that is no longer there |
| `lines` | new lines of the log that the page shows: `html`, and the number of the `last` one, also as the event's id |
| `at` | the server's time, every 15 seconds |

All who look at one address share one look at the database and one rendering, at most once a second, when something
that concerns it has changed. New figures and lines alone are a smaller look, where a page has one (`Page.refresh`).
Nothing is done for an address at which nobody looks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from loguru import logger
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from flowherd.web.live_parts import Part, changes
from flowherd.web.policy import PAGE_HEADERS
from flowherd_server.errors import Refused
from flowherd_server.pages.frame import FIGURES, NewLines
from flowherd_server.service import ServerCore

#: Most streams of a server.
MOST_STREAMS = 50
#: Shortest time between two looks at one address, seconds, the part of all time that they may take, and the longest
#: time that this makes, seconds.
_SHORTEST_S, _SHARE, _SLOWEST_S = 1.0, 0.05, 5.0
#: Longest time between two whole looks, for what changes with time alone, seconds.
_LONGEST_S = 10.0
#: How often agents are told again that somebody watches, seconds.
_WATCH_S = 4.0
_HEARTBEAT_S = 15.0
#: Looks of which the news wait for a reader who is slow; then the stream ends, and the page begins anew.
_MOST_WAITING = 30
#: Topics of figures and lines begin so.
_LIGHT = (FIGURES, "log")
_HEADERS = {**PAGE_HEADERS, "X-Accel-Buffering": "no"}


@dataclass(frozen=True)
class Look:
    """A page, as it is now."""

    parts: Mapping[str, Part]
    topics: tuple[str, ...]
    #: HTML and last number of the lines after each of the numbers that were asked for.
    lines: Mapping[int, tuple[str, int]]
    #: Looks again, at figures and lines alone, for readers with these last numbers; None if the page has no such look.
    #: Returns None if more has changed. For the event loop.
    again: Callable[[frozenset[int]], Awaitable[Look | None]] | None = None

    def with_news(self, news: Look) -> Look:
        """Return the page with what a look at figures and lines has found."""
        placed = {
            id: replace(part, into=self.parts[id].into, after=self.parts[id].after)
            for id, part in news.parts.items()
            if id in self.parts
        }
        return replace(self, parts={**self.parts, **placed}, lines=news.lines)


@dataclass(eq=False)
class _Stream:
    """One reader."""

    #: Number of the last line that the reader has; None where no log is shown.
    after: int | None
    events: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(_MOST_WAITING))

    def send(self, event: bytes | None) -> None:
        try:
            self.events.put_nowait(event)
        except asyncio.QueueFull:
            with contextlib.suppress(asyncio.QueueEmpty):
                self.events.get_nowait()
            self.events.put_nowait(None)


class _View:
    """One address at which somebody looks."""

    def __init__(self) -> None:
        self.streams: set[_Stream] = set()
        #: Set by any change; `is_changed` says whether it may be one of more than figures and lines.
        self.woken = asyncio.Event()
        self.is_changed = False
        self.look: Look | None = None
        self.topics: tuple[str, ...] = ()

    def notify(self) -> None:
        self.is_changed = True
        self.woken.set()

    def notify_lightly(self) -> None:
        self.woken.set()

    def send(self, event: bytes | None) -> None:
        for stream in self.streams:
            stream.send(event)


class Streams:
    """All streams of a server. `look` reads a page; it is given the address and the numbers of the readers' last lines.

    Raises Refused if there is no such page. For the event loop's thread.
    """

    def __init__(self, core: ServerCore, look: Callable[[str, frozenset[int]], Any]) -> None:
        self._core, self._look = core, look
        self._views: dict[str, _View] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        core.feed.on_close.append(self.close)

    async def answer(self, request: Request) -> Response:
        """Answer a request for a stream."""
        if self._core.stopping or sum(len(view.streams) for view in self._views.values()) >= MOST_STREAMS:
            text = f"{MOST_STREAMS} pages are open, and no more are kept up to date; reload to see news"
            return Response(text, 503, PAGE_HEADERS, media_type="text/plain")
        address = request.query_params.get("view", "")
        last = request.headers.get("last-event-id") or request.query_params.get("after", "")
        stream = _Stream(int(last) if last.isascii() and last.isdigit() and len(last) < 16 else None)
        return StreamingResponse(self._events(address, stream), 200, _HEADERS, media_type="text/event-stream")

    def close(self) -> None:
        """End all streams."""
        for view in self._views.values():
            view.send(None)

    async def _events(self, address: str, stream: _Stream) -> AsyncIterator[bytes]:
        view = self._views.get(address)
        if view is None:
            view = self._views[address] = _View()
            task = asyncio.create_task(self._keep(address, view))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif view.look is not None:
            stream.send(_state(view.look.parts))
        view.streams.add(stream)
        if stream.after is not None:
            view.notify_lightly()
        try:
            yield _event("at", int(time.time()))
            while True:
                try:
                    event = await asyncio.wait_for(stream.events.get(), _HEARTBEAT_S)
                except asyncio.TimeoutError:
                    event = _event("at", int(time.time()))
                if event is None:
                    return
                yield event
        finally:
            view.streams.discard(stream)
            view.notify_lightly()

    async def _keep(self, address: str, view: _View) -> None:
        """Send what changes for as long as somebody looks."""
        try:
            await self._look_at(address, view)  # with the time that templates take to be compiled
            whole_s = 0.0
            while view.streams:
                began_s = time.monotonic()
                is_whole = view.is_changed or began_s - whole_s >= _LONGEST_S
                view.woken.clear()
                if is_whole or not await self._look_again(view):
                    view.is_changed, whole_s = False, began_s
                    await self._look_at(address, view)
                pause_s = min(_SLOWEST_S, max(_SHORTEST_S, (time.monotonic() - began_s) / _SHARE))
                await asyncio.sleep(pause_s)
                await self._wait(view, whole_s + _LONGEST_S)
        except Refused as refusal:  # there is no such page, or no longer
            logger.debug("the stream of {} ends: {}", address, refusal)
        except Exception as error:
            logger.opt(exception=error).warning("a page cannot be kept up to date: {}", address)
        finally:
            self._listen(view, ())
            del self._views[address]
            view.send(None)

    async def _wait(self, view: _View, until_s: float) -> None:
        """Wait for a change, until a time (monotonic)."""
        while view.streams and not view.woken.is_set() and (left_s := until_s - time.monotonic()) > 0:
            self._watch(view.topics)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(view.woken.wait(), min(left_s, _WATCH_S))

    async def _look_again(self, view: _View) -> bool:
        """Send what figures and lines have changed. Returns False if a whole look is needed."""
        if view.look is None or view.look.again is None:
            return False
        self._watch(view.topics)
        news = await view.look.again(_numbers(view))
        if news is None:
            return False
        _send_news(view, view.look.with_news(news))
        return True

    async def _look_at(self, address: str, view: _View) -> None:
        self._watch(view.topics)
        look: Look = await self._look(address, _numbers(view))
        if look.topics != view.topics:
            self._listen(view, look.topics)
            self._watch(look.topics)
        _send_news(view, look)

    def _listen(self, view: _View, topics: tuple[str, ...]) -> None:
        feed = self._core.feed
        for notify in (view.notify, view.notify_lightly):
            feed.leave(view.topics, notify)
        view.topics = topics
        feed.listen([topic for topic in topics if topic.startswith(_LIGHT)], view.notify_lightly)
        feed.listen([topic for topic in topics if not topic.startswith(_LIGHT)], view.notify)

    def _watch(self, topics: tuple[str, ...]) -> None:
        if any(topic.startswith(FIGURES) for topic in topics):
            self._core.live.watch(next((topic[4:] for topic in topics if topic.startswith("run:")), None))


def _numbers(view: _View) -> frozenset[int]:
    return frozenset(stream.after for stream in view.streams if stream.after is not None)


def _send_news(view: _View, look: Look) -> None:
    """Send what is new in a look. What all get is sent at once."""
    before, view.look = view.look, look
    if before is None:
        view.send(_state(look.parts))
    else:
        changed, gone = changes(before.parts, look.parts)
        events = [*(_event("gone", id) for id in gone), *(_part(id, part) for id, part in changed.items())]
        if events:
            view.send(b"".join(events))
    for stream in view.streams:
        html, last = look.lines.get(-1 if stream.after is None else stream.after, ("", 0))
        if html:
            stream.send(_event("lines", {"html": html, "last": last}, number=last))
            stream.after = last


def lines_after(connection: Any, new: NewLines | None, numbers: frozenset[int]) -> dict[int, tuple[str, int]]:
    """Return what is new in a page's log after each of these numbers."""
    return {} if new is None else {number: new.read(connection, number) for number in numbers}


def _state(parts: Mapping[str, Part]) -> bytes:
    return _event("state", {id: part.version for id, part in parts.items()})


def _part(id: str, part: Part) -> bytes:
    place = {"into": part.into, "after": part.after} if part.into else {}
    return _event("part", {"id": id, "html": part.html, **place})


def _event(name: str, data: Any, number: int | None = None) -> bytes:
    # JSON has no line breaks, which would end a field.
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {name}\ndata: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()
