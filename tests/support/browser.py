"""Debian's Chromium without a window, driven by Playwright's library from PyPI, which downloads no browser here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.debian_programs import required_program
from tests.support.leftovers import none_left

#: The machine may be busy with other tests.
expect.set_options(timeout=20_000)


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Yield a browser, which ends with the block."""
    program = required_program("chromium", "chromium")
    # In a container there is no sandbox of its own, and the pages are ours.
    with none_left(), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(
    browser: Browser,
    *,
    width: int = 1280,
    height: int = 800,
    script: bool = True,
    dark: bool = False,
    fails: tuple[str, ...] = (),
) -> Iterator[Page]:
    """Yield a page, on which nothing may fail but what begins with one of `fails`: no error, no refusal of policy."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        java_script_enabled=script,
        color_scheme="dark" if dark else "light",
    )
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(f"{said.text} {said.location}") if said.type == "error" else None)
    try:
        yield page
        shown = [text for text in wrong if not fails or not text.startswith(fails)]
        assert shown == [], "\n".join(shown)
    finally:
        context.close()
