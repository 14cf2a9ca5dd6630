"""What a page gets and returns, and the frame around it.

To add a page:

1. Write `pages/NAME.py` with a function `NAME_page(ask: Ask) -> Page`. It runs in a thread of the question lane;
   `ask.connection` is an open read transaction, `ask.core` the server, `ask.given` the parameters of the path,
   `ask.query` those of the query, `ask.now` the time. For something that does not exist raise `NoSuchPage("flow run
   1234 …")`, which is answered by 404 with the sentence.
2. Write `pages/templates/NAME.html`, which extends `base.html`, fills the block `main` and may
   `{% import "macros.html" as m %}`. It gets the values of the Page and `frame` (`Frame`). What it may call is in
   flowherd/web/environment.py. No inline style or script. What is to change while somebody looks is wrapped as
   flowherd/web/live_parts.py says, and `Page.live` names what changes it: the page is then rendered again, at most once
   a second for all who look at this address, and what has changed is sent to them (events.py).
3. Add a line to `PAGES` in routes.py, and to `NAVIGATION` if it is one of the five.

A page whose answer is no HTML, or is streamed, returns a Starlette response in place of the Page.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlsplit

from sqlalchemy import Connection
from starlette.datastructures import QueryParams
from starlette.responses import HTMLResponse, Response

from flowherd import __version__
from flowherd.states import TAKEN
from flowherd.web.environment import render
from flowherd.web.form_tokens import FormTokens
from flowherd.web.live_parts import Parts
from flowherd.web.policy import PAGE_HEADERS, own_path
from flowherd_server.errors import NOT_FOUND, Refused
from flowherd_server.pages.agent_views import ShownAgent, shown_agents
from flowherd_server.pages.login import Login
from flowherd_server.service import ServerCore
from flowherd_server.store.microseconds import to_datetime
from flowherd_server.store.run_counts import runs_by_state
from flowherd_server.web.lanes import Lanes

#: Name of the query's parameter that names what came of the action before.
DONE = "done"


class NoSuchPage(Refused):
    """What the address names does not exist; the message says what was looked for."""

    def __init__(self, message: str) -> None:
        super().__init__(message, NOT_FOUND)


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A request for a page or a question."""

    core: ServerCore
    #: The threads in which a response that is streamed reads what follows.
    lanes: Lanes
    #: An open read transaction.
    connection: Connection
    #: Path, as it was asked for.
    path: str
    #: Parameters of the path, by name.
    given: Mapping[str, str]
    query: QueryParams
    login: Login
    #: Whether actions are allowed (server.pages is full).
    may_act: bool
    #: Path and query of the page that the reader comes from, if it is one of ours; else empty.
    came_from: str
    #: Time of the request, microseconds since the epoch.
    now_us: int
    #: Whether only its live parts are wanted, so that what is no part (such as a log) need not be read.
    is_update: bool = False

    @property
    def now(self) -> datetime:
        """The time of the request, aware."""
        return to_datetime(self.now_us)

    @cached_property
    def agents(self) -> Sequence[ShownAgent]:
        """The agents that were heard of within a day or have runs, trouble first."""
        return shown_agents(self)


#: Topic of a page that shows figures of running runs, also followed by a colon and a run's id. While such a page is
#: open, agents report every two seconds.
FIGURES = "figures"


@dataclass(frozen=True)
class NewLines:
    """The log of a page whose lines are sent as they come."""

    #: Number of the last line that the page has.
    last: int
    #: Returns the HTML of the lines after a number, and the number of the last of them (or the one that was given).
    read: Callable[[Connection, int], tuple[str, int]]


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page, as its function returns it."""

    #: Name of the template.
    template: str
    #: A sentence or a name: the tab's title.
    title: str
    #: Values for the template.
    values: Mapping[str, Any] = field(default_factory=dict)
    #: Path of the entry of the navigation to which it belongs; empty for none.
    here: str = ""
    #: Topics that change its parts (flowherd_server/runs/change_feed.py), such as "runs", "run:ID", "agents"; FIGURES
    #: for figures that agents report while somebody looks. Empty if it has no live parts.
    live: Sequence[str] = ()
    #: Returns the page as far as figures and lines change it, with a template of such parts alone, and in place of
    #: `ask.connection` that of a new Ask; None if more has changed. For the changes of topics of figures and logs.
    refresh: Callable[[Ask], Page | None] | None = None
    #: The log whose lines are sent as they come; None for none.
    lines: NewLines | None = None
    #: Where a form leads back to, if not to the page itself.
    back: str = ""
    status: int = 200


@dataclass(frozen=True)
class NavEntry:
    """An entry of the navigation."""

    path: str
    word: str
    #: Shown behind the word unless 0, with a title for it.
    count: int = 0
    title: str = ""
    is_bad: bool = False


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What base.html and the macros use."""

    title: str
    count_nav: Callable[[], tuple[NavEntry, ...]]
    here: str
    #: Address of the stream of its live parts; empty for none.
    live: str
    #: What came of the action before; empty if there was none.
    said: str
    may_act: bool
    #: Where forms lead back to.
    back: str
    #: Whether the reader has logged in, and under which name.
    login: bool
    login_name: str
    new_token: Callable[[], str]
    #: Those of its parts that are live: `{% call frame.part(id, tag, classes, into) %}…{% endcall %}`.
    parts: Parts = field(default_factory=Parts)
    version: str = __version__
    host: str = field(default_factory=platform.node)
    zone: str = field(default_factory=lambda: time.tzname[time.localtime().tm_isdst > 0])

    @cached_property
    def nav(self) -> tuple[NavEntry, ...]:
        """The entries of the navigation, with their numbers."""
        return self.count_nav()

    @property
    def part(self) -> Callable[..., Any]:
        """What a template wraps a live part in."""
        return self.parts.part


#: The pages in the navigation, in its order.
NAVIGATION = (
    NavEntry("/", "Overview"),
    NavEntry("/runs", "Runs"),
    NavEntry("/flows", "Flows"),
    NavEntry("/schedules", "Schedules"),
    NavEntry("/agents", "Agents"),
)


def frame_of(ask: Ask, page: Page, tokens: FormTokens, said: str) -> Frame:
    """Return the frame of a page."""
    return Frame(
        title=page.title,
        count_nav=lambda: _nav(ask),
        here=page.here,
        live=_stream_of(ask, page),
        said=said,
        may_act=ask.may_act,
        back=page.back or _without_done(ask),
        login=bool(ask.login.id),
        login_name=ask.login.name,
        new_token=lambda: tokens.new(ask.login.id),
    )


def page_response(ask: Ask, page: Page | Response, tokens: FormTokens, said: str = "") -> Response:
    """Return the answer with a page in its frame."""
    if isinstance(page, Response):
        return page
    return HTMLResponse(rendered(page, frame_of(ask, page, tokens, said)), page.status, PAGE_HEADERS)


def rendered(page: Page, frame: Frame) -> str:
    """Return the HTML of a page; `frame.parts` then has its live parts."""
    return render("flowherd_server.pages", page.template, frame=frame, **page.values)


def message_page(title: str, sentence: str, *, status: int, link: str = "/", link_word: str = "Overview") -> Page:
    """Return a page that consists of a sentence."""
    values = {"sentence": sentence, "link": link, "link_word": link_word}
    return Page(template="message.html", title=title, values=values, status=status)


def _nav(ask: Ask) -> tuple[NavEntry, ...]:
    states = runs_by_state(ask.connection)
    running = sum(states.get(state.value, 0) for state in TAKEN)
    away = sum(agent.is_away for agent in ask.agents)
    counts = {
        "/runs": NavEntry("/runs", "Runs", running, f"{running} are running"),
        "/agents": NavEntry("/agents", "Agents", away, f"{away} {'is' if away == 1 else 'are'} away", is_bad=True),
    }
    return tuple(counts.get(each.path, each) for each in NAVIGATION)


def _stream_of(ask: Ask, page: Page) -> str:
    if not page.live:
        return ""
    lines = f"&after={page.lines.last}" if page.lines else ""
    return f"/events?view={quote(_without_done(ask), safe='')}{lines}"


def _without_done(ask: Ask) -> str:
    query = QueryParams([(name, value) for name, value in ask.query.multi_items() if name != DONE])
    return f"{ask.path}?{query}" if query else ask.path


def referring_page(referer: str, host: str) -> str:
    """Return path and query of the page of ours that a Referer header names; empty if it is none."""
    try:
        parts = urlsplit(referer)
    except ValueError:
        return ""
    if parts.netloc != host:
        return ""
    return own_path(parts.path + (f"?{parts.query}" if parts.query else ""))
