"""`flowherd top` as a person has it before them: keys, mouse and what is shown, by Textual's pilot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from textual import events
from textual.pilot import Pilot

from flowherd.cli.top.app import TopApp
from flowherd.cli.top.sources import Source
from flowherd.cli.top.spans import plain

#: Time in which a screen has to come, seconds.
_TIMEOUT_S = 20.0
#: Time between two looks of the program, seconds.
_INTERVAL_S = 0.1


class Screen:
    """The program's screen."""

    def __init__(self, app: TopApp, pilot: Pilot[None]) -> None:
        self.app = app
        self._pilot = pilot

    @property
    def lines(self) -> list[str]:
        return [plain(one) for one in self.app.screen.canvas.lines]  # type: ignore[attr-defined]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def current(self) -> str:
        return self.app.list_state.current or ""

    async def until(self, found: Callable[[], object]) -> None:
        deadline_s = time.monotonic() + _TIMEOUT_S
        while not found():
            assert time.monotonic() < deadline_s, self.text
            await self._pilot.pause(0.05)

    async def shows(self, *texts: str) -> None:
        await self.until(lambda: all(text in self.text for text in texts))

    async def press(self, *keys: str) -> None:
        await self._pilot.press(*keys)
        await self._pilot.pause()

    async def types(self, text: str) -> None:
        self.app.screen.typed.post_message(events.Paste(text))  # type: ignore[attr-defined]
        await self.press("enter")

    async def click(self, x: int, y: int, times: int = 1) -> None:
        await self._pilot.click(offset=(x, y), times=times)

    async def resize(self, width: int, height: int) -> None:
        await self._pilot.resize_terminal(width, height)

    async def goes_to(self, run_id: str) -> None:
        """Go to the row of a run by a click, once it is shown."""
        await self.shows(run_id[:8])
        y = next(n for n, one in enumerate(self.lines) if run_id[:8] in one)
        await self.click(10, y)
        await self.until(lambda: self.current == run_id)


def before(source: Source, person: Callable[[Screen], Awaitable[None]], width: int = 100, height: int = 28) -> None:
    """Run the program on a source, with a person before it, and end it."""

    async def run() -> None:
        app = TopApp(source, _INTERVAL_S)
        async with app.run_test(size=(width, height)) as pilot:
            await person(Screen(app, pilot))
        source.close()

    asyncio.run(run())
