"""Each page in a real browser, with few and with many runs, in both colours, narrow and wide, with and without script.

Every page is looked at for what reads badly (axe-core, WCAG 2.2 AA), for what its policy has refused or its script has
failed at (tests/support/browser.py), for names that would run, and for scrolling sideways.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from flowherd import LocalAgent
from flowherd.backends.memory import MemoryBackend
from flowherd.config import load_settings
from tests.support.accessibility import violations
from tests.support.agents import going, wait_for_end
from tests.support.browser import open_page, running_browser
from tests.support.leftovers import none_left
from tests.support.many_runs import LONG_NAME
from tests.support.page_scene import EVIL, Scene, running_scene
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow, pytest.mark.timeout(300)]

WIDTHS = (360, 375, 704, 1024, 1280, 1600)
#: What the tab of a page that does not exist reports.
_FAILS = ("Failed to load resource",)
_SIDEWAYS = """() => {
  const most = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= most) return [];
  const cuts = e => e.id !== "main" && getComputedStyle(e).overflowX !== "visible";
  const isCut = e => e && (cuts(e) || isCut(e.parentElement));
  const all = [...document.querySelectorAll("main *, footer *, .top *")];
  const wide = all.filter(e => e.getBoundingClientRect().right > most + 1 && !isCut(e.parentElement));
  return [document.documentElement.scrollWidth + " px", ...wide.slice(0, 5).map(e => e.outerHTML.slice(0, 120))];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as found:
        yield found


@pytest.fixture(scope="module")
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A server with as many runs as the test says."""
    with none_left(), running_scene(tmp_path_factory.mktemp("scene") / "data", request.param) as found:
        yield found


def _some(every: Iterable[Any], usual: Container[Any]) -> list[Any]:
    """Mark all but the usual ones as left out of the usual run."""
    return [
        pytest.param(*(each if isinstance(each, tuple) else (each,)), marks=() if each in usual else pytest.mark.full)
        for each in every
    ]


#: Width in px, colours, and with what; in the usual run with how many runs.
_EVERY = [" ".join(each) for each in itertools.product(("375", "1280"), ("light", "dark"), ("script", "plain"))]
_USUAL = ((50, "1280 light script"), (0, "375 dark plain"))
#: What axe-core looks at in the usual run, and what is made narrower and wider.
_USUALLY_READ = ("overview", "runs", "failed run", "flow")
_USUALLY_RESIZED = (*_USUALLY_READ, "schedules", "agents")
_FULL = "--full"
_FEW_AND_MANY = pytest.mark.parametrize("scene", _some((50, 5000), (50,)), indirect=True)


@pytest.mark.parametrize(
    ("scene", "look"), _some(itertools.product((0, 1, 50, 5000), _EVERY), _USUAL), indirect=["scene"]
)
def test_a_page_reads_well(browser: Browser, scene: Scene, look: str, request: pytest.FixtureRequest) -> None:
    width, colours, how = look.split()
    reads_all = request.config.getoption(_FULL)
    wrong: list[str] = []
    with open_page(browser, width=int(width), dark=colours == "dark", script=how == "script", fails=_FAILS) as page:
        for view in scene.views:
            page.goto(scene.url(view))
            found = _problems(page)
            if how == "script" and (reads_all or view in _USUALLY_READ):
                found += violations(page)
            wrong += [f"{view}: {problem}" for problem in found]
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


def _problems(page: Page) -> list[str]:
    sideways = page.evaluate(_SIDEWAYS)
    found = [f"scrolls sideways: {sideways}"] if sideways else []
    if page.title() == "evil":
        found.append("the script in a name has run")
    if page.locator("main img, main script").count():
        found.append("the HTML in a name is HTML")
    if "\x1b" in page.locator("main").inner_text() or "\\x1b" in page.locator("main").inner_text():
        found.append("an escape of a terminal is shown")
    return found


def _sideways(page: Page) -> list[str]:
    """Return at which widths the page scrolls sideways, and what is too wide."""
    found = []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        wide = page.evaluate(_SIDEWAYS)
        found += [f"at {width} px: {wide}"] if wide else []
    return found


@_FEW_AND_MANY
def test_no_page_scrolls_sideways_at_any_width(browser: Browser, scene: Scene, request: pytest.FixtureRequest) -> None:
    views = scene.views if request.config.getoption(_FULL) else _USUALLY_RESIZED
    wrong: list[str] = []
    with open_page(browser, fails=_FAILS) as page:
        for view in views:
            page.goto(scene.url(view))
            wrong += [f"{view} {found}" for found in _sideways(page)]
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


@_FEW_AND_MANY
def test_what_runs_is_on_the_first_screen(browser: Browser, scene: Scene) -> None:
    with open_page(browser) as page:
        for view, width, height in (("overview", 1280, 800), ("runs", 1280, 800), ("runs", 375, 700)):
            page.set_viewport_size({"width": width, "height": height})
            page.goto(scene.url(view))
            expect(page.locator("tr[data-run]").first).to_be_in_viewport()


def test_the_pages_of_an_agent_read_well(browser: Browser, tmp_path: Path) -> None:
    backend = MemoryBackend()
    settings = load_settings({"home": str(tmp_path), "runs.keep": 3600})
    with going(LocalAgent(backend=backend, settings=settings, agent_address="http://127.0.0.1:0")) as agent:
        address = wait_until(lambda: agent.api_address, what="its address")
        goes_on, failed = (
            backend.add_run({"type": "Command", "argv": ["sh", "-c", script, EVIL]}, labels=agent.labels, name=name)
            for script, name in (("echo begun; sleep 100", LONG_NAME), ('echo "$0"; exit 3', EVIL))
        )
        wait_for_end(backend, failed)
        wrong: list[str] = []
        with open_page(browser) as page:

            def is_there(run_id: str) -> bool:
                page.goto(address)
                return page.locator(f'main a[href="/runs/{run_id}"]').count() > 0

            wait_until(lambda: is_there(goes_on) and is_there(failed), what="both runs on its page")
            for path in ("/", f"/runs/{goes_on}", f"/runs/{failed}"):
                page.set_viewport_size({"width": 1280, "height": 800})
                page.goto(address + path)
                wrong += [f"{path}: {problem}" for problem in _problems(page) + violations(page)]
                wrong += [f"{path} {found}" for found in _sideways(page)]
        backend.cancel(goes_on)
        wait_for_end(backend, goes_on)
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)
