"""What pages change: a question by GET, the action by POST from its form, and 303 back with what came of it.

To add an action:

1. Write `pages/NAME.py` with `question(ask: Ask) -> Question`, which reads what will happen in the question lane, and
   `carry_out(deed: Deed) -> Outcome`, which does it in the lane of changes by `deed.carry_out("cancel_flow_runs",
   {...})`: the operations of GraphQL, in a transaction of their own. Raise `Refused` (flowherd_server/errors.py) with a
   sentence if it cannot be done: the question is then shown again with it.
2. `ACTIONS = (Action(path="/runs/{run}/cancel", question=..., carry_out=...),)`, and its line in routes.py.
3. Link to it by the macro `ask(frame, path, "Cancel…")`, which draws nothing where actions are not allowed. A form that
   marks several rows is a GET form whose buttons have `formaction`: `/runs/cancel?run=ID&run=ID`.

A question that needs fields names a template that extends `question.html` and fills its block `fields`; what was
entered is in `deed.form`, and `entered` is given to the template when the question is shown again.

The form carries a token (flowherd/web/form_tokens.py): a form that this process did not make for this login is not
carried out but asked again, and one that is sent twice is carried out once, with one answer for both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import FormData
from starlette.requests import Request

from flowherd.story.asked_by import asked_by
from flowherd_server.call import Caller
from flowherd_server.errors import Refused
from flowherd_server.mutations import OPERATIONS
from flowherd_server.pages.frame import DONE, Ask, Page
from flowherd_server.pages.login import Login
from flowherd_server.service import RequestContext, ServerCore

#: Largest form, bytes: a run's parameters are in it.
_MAX_FORM_BYTES = 1024 * 1024
_MAX_FIELDS = 2000
#: Number of forms that were sent and are remembered.
_REMEMBERED = 1000
_OPERATIONS = {operation.name: operation for operation in OPERATIONS}


@dataclass(frozen=True, kw_only=True)
class Question:
    """What will happen, before it does."""

    #: "Cancel 2 runs?"
    headline: str
    #: What it does to what, in sentences.
    sentences: Sequence[str] = ()
    #: What it concerns, one a line; empty where the sentences say it.
    names: Sequence[str] = ()
    #: The word on the button: "Cancel 2 runs".
    button: str
    #: Whether something ends by it.
    is_harsh: bool = False
    #: Further fields of the form, by name.
    hidden: Sequence[tuple[str, str]] = ()
    template: str = "question.html"
    values: Mapping[str, Any] = field(default_factory=dict)
    #: Where to go afterwards, if the reader came from nowhere.
    back: str = "/"
    here: str = ""
    #: Set by the frame: address of the form, and why it was not carried out.
    path: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of an action."""

    #: A sentence: "Cancelled 2; 1 had ended already."
    said: str
    #: Where to go, such as to the new run; None for the page where it was asked.
    to: str | None = None


@dataclass(frozen=True, kw_only=True)
class Deed:
    """An action that a person has confirmed."""

    core: ServerCore
    given: Mapping[str, str]
    form: FormData
    login: Login

    def carry_out(self, operation: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Carry out a mutation by its name and return its answer. Raises Refused."""
        caller = Caller(by=asked_by("page", self.login.name))
        with self.core.turns.turn() as turn:
            return RequestContext(self.core, caller, {}, turn).carry_out(_OPERATIONS[operation], given)


@dataclass(frozen=True, kw_only=True)
class Action:
    """One action: its address, question and deed."""

    path: str
    question: Callable[[Ask], Question]
    carry_out: Callable[[Deed], Outcome]


def question_page(ask: Ask, question: Question, *, problem: str = "", entered: FormData | None = None) -> Page:
    """Return the page that asks. `problem` says why the form that was sent was not carried out."""
    query = f"?{ask.query}" if ask.query else ""
    shown = Question(**{**vars(question), "path": ask.path + query, "problem": problem})
    back = (entered or FormData()).get("back") or ask.query.get("back") or ask.came_from or question.back
    return Page(
        template=question.template,
        title=question.headline,
        values={"question": shown, "entered": entered or FormData(), **question.values},
        here=question.here,
        back=str(back),
        status=400 if problem else 200,
    )


async def form_of(request: Request) -> FormData:
    """Return the fields of a form that was sent URL-encoded. Raises Refused if it is none, or too large."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Refused("a form is sent as application/x-www-form-urlencoded")
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > _MAX_FORM_BYTES:
            raise Refused(f"the form is larger than {_MAX_FORM_BYTES} bytes")
    try:
        fields = parse_qsl(data.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
        return FormData([(name, value) for name, value in fields])
    except ValueError as error:
        raise Refused(f"the form cannot be read: {error}") from None


class Outcomes:
    """What came of the forms that were sent: each is carried out once. For the event loop's thread."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Future[Outcome]] = {}

    async def once(self, token: str, start: Callable[[], Any]) -> Outcome:
        """Return what came of the form with this token; `start` carries it out if it was not sent before."""
        task = self._tasks.get(token)
        if task is None:
            task = self._tasks[token] = asyncio.ensure_future(start())
            while len(self._tasks) > _REMEMBERED:
                del self._tasks[next(iter(self._tasks))]
        try:
            return await asyncio.shield(task)
        except BaseException:
            if task.done():  # nothing was done; what was entered can be corrected
                self._tasks.pop(token, None)
            raise

    def said(self, key: str) -> str:
        """Return the sentence that an address names after an action; empty if it names none."""
        for token, task in self._tasks.items():
            if key and token.partition(".")[0] == key and task.done() and not task.exception():
                return task.result().said
        return ""


def address_after(back: str, token: str) -> str:
    """Return where to go after an action, with a name for what came of it."""
    parts = urlsplit(back)
    query = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != DONE]
    query.append((DONE, token.partition(".")[0]))
    fragment = f"#{parts.fragment}" if parts.fragment else ""
    return f"{parts.path}?{urlencode(query)}{fragment}"
