"""The addresses of the agent's pages, who may see them, and what is asked there."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from flowherd.agent.orders import CANNOT_RESTART
from flowherd.agent.pages.frame import Frame
from flowherd.agent.shutdown import ShutdownRequest
from flowherd.shown_text import lines as shown_lines
from flowherd.web.environment import render
from flowherd.web.form_tokens import FIELD, FormTokens
from flowherd.web.policy import PAGE_HEADERS
from flowherd.web.static import STATIC_PATH, static_file

if TYPE_CHECKING:
    from flowherd.agent.http_api import ApiFacts

_MOST_FORM_BYTES = 64 * 1024
#: Bytes of a journal that are read at once for a download.
_READ_BYTES = 1024 * 1024


@dataclass(frozen=True)
class _Deed:
    """What can be asked of the agent."""

    word: str
    #: What will happen.
    sentences: tuple[str, ...]
    #: What is said once it was asked.
    done: str
    is_harsh: bool = False
    #: Whether it ends the agent, which is allowed behind a token only.
    ends: bool = False


_DEEDS = {
    "pause": _Deed("Pause", ("It claims nothing until it is resumed. Its runs go on.",), "The agent is paused."),
    "resume": _Deed("Resume", ("It claims runs again at once.",), "The agent is resumed."),
    "drain": _Deed(
        "Drain",
        (
            "It claims nothing more, and ends when its runs have ended, or at its deadline (agent.drain_deadline).",
            "supervisord and systemd do not start a drained agent again.",
        ),
        "The agent claims nothing more and ends with its runs.",
        is_harsh=True,
        ends=True,
    ),
    "restart": _Deed(
        "Restart",
        ("It takes up new code and settings. Its runs go on meanwhile and are adopted, with their logs whole.",),
        "The agent starts again.",
        ends=True,
    ),
}


class HostPages:
    """The pages at one address. With a `token` they need it, as the password that a browser asks for."""

    def __init__(self, facts: ApiFacts, token: str, is_named_rightly: Callable[[Request], bool]) -> None:
        self._facts = facts
        self._token = token
        self._is_named_rightly = is_named_rightly
        self._tokens = FormTokens()

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/", self._guarded(self._host)),
            Route(f"{STATIC_PATH}/{{name}}", self._guarded(_static)),
            Route("/runs/{run}", self._guarded(self._run)),
            Route("/runs/{run}/log", self._guarded(self._log)),
            *(Route(f"/{name}", self._guarded(self._question)) for name in _DEEDS),
            *(Route(f"/{name}", self._deed, methods=["POST"]) for name in _DEEDS),
        ]

    def _guarded(self, answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
        def endpoint(request: Request) -> Response:
            return self._refusal(request) or answer(request)

        return endpoint

    def _refusal(self, request: Request) -> Response | None:
        headers = request.headers
        if "content-length" in headers and "transfer-encoding" in headers:
            return _refused("A request has Content-Length or Transfer-Encoding, not both.", 400)
        if self._token and not self._knows_token(request):
            challenge = {"WWW-Authenticate": 'Basic realm="flowherd agent", charset="UTF-8"'}
            return _refused("This needs the agent's API token (agent.api_token) as the password.", 401, challenge)
        if not self._token and not self._is_named_rightly(request):
            return _refused("The Host header does not name this host.", 400)
        if _is_of_another_site(request):
            return _refused("Pages of other sites may not do this.", 403)
        return None

    def _knows_token(self, request: Request) -> bool:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).partition(b":")[2].decode("utf-8", "replace")
            except binascii.Error:
                return False
        elif scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._token.encode())

    # -- pages

    def _page(self, template: str, title: str, status: int = 200, **values: Any) -> Response:
        frame = Frame(title=title, said=values.pop("said", ""), new_token=lambda: self._tokens.new(""))
        html = render("flowherd.agent.pages", template, frame=frame, **values)
        return HTMLResponse(html, status, PAGE_HEADERS)

    def _host(self, request: Request) -> Response:
        from flowherd.agent.pages.views import host_values

        facts = self._facts
        values = host_values(facts.name, facts.health(), facts.control, facts.report(), facts.records())
        done = _DEEDS.get(request.query_params.get("done", ""))
        values |= {"said": done.done if done is not None else "", "may_stop": bool(self._token)}
        return self._page("agent_host.html", values["headline"], **values)

    def _run(self, request: Request) -> Response:
        from flowherd.agent.pages.views import run_values

        records = self._facts.records()
        run = records.get(request.path_params["run"])
        if run is None:
            return self._no_such_run()
        return self._page("agent_run.html", f"{run.name}, {run.state}", **run_values(run, records))

    def _no_such_run(self) -> Response:
        sentence = (
            "This host has no such run any more: it was removed after its end (runs.keep), or never was here. Its log "
            "is at the server."
        )
        return self._page(
            "message.html", "There is no such run.", 404, sentence=sentence, link="/", link_word="This host"
        )

    def _log(self, request: Request) -> Response:
        run_id, records = request.path_params["run"], self._facts.records()
        if records.journal(run_id, 0, 0) is None:
            return self._no_such_run()

        def pieces() -> Iterator[str]:
            begin = 0
            while (part := records.journal(run_id, begin, _READ_BYTES)) is not None and part.end > begin:
                begin = part.end
                yield "".join(f"{line.at.isoformat()} {shown_lines(line.message)}\n" for line in part.lines)

        headers = {**PAGE_HEADERS, "Content-Disposition": f'inline; filename="{run_id}.log"'}
        return StreamingResponse(pieces(), media_type="text/plain; charset=utf-8", headers=headers)

    # -- actions

    def _question(self, request: Request, problem: str = "") -> Response:
        name = request.url.path.strip("/")
        deed = _DEEDS[name]
        headline = f"{deed.word} {self._facts.name}?"
        question = {
            "path": f"/{name}",
            "headline": headline,
            "sentences": deed.sentences,
            "names": (),
            "button": f"{deed.word} {self._facts.name}",
            "is_harsh": deed.is_harsh,
            "hidden": (),
            "problem": problem or self._why_not(deed),
        }
        return self._page("question.html", headline, 400 if problem else 200, question=question, entered={})

    def _why_not(self, deed: _Deed) -> str:
        if deed.ends and not self._token:
            command = deed.word.lower()
            return f"Without a token (agent.api_token) this is done on the agent's host alone: flowherd {command}"
        return ""

    async def _deed(self, request: Request) -> Response:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MOST_FORM_BYTES:
                return _refused("The form is too large.", 413)
        token = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True).get(FIELD, [""])[0]
        return await run_in_threadpool(self._carry_out, request, token)

    def _carry_out(self, request: Request, token: str) -> Response:
        name = request.url.path.strip("/")
        deed = _DEEDS[name]
        if not self._tokens.is_valid(token, ""):
            return self._question(request, "This form was made before the agent was started. Look at it once more.")
        problem = self._why_not(deed) or self._ask(name)
        if problem:
            return self._question(request, problem)
        return RedirectResponse(f"/?done={name}", 303, PAGE_HEADERS)

    def _ask(self, name: str) -> str:
        """Ask the agent, and return why it does not do it; empty if it does."""
        control = self._facts.control
        try:
            if name == "pause":
                control.pause()
            elif name == "resume":
                control.resume()
                self._facts.poke()
            elif name == "restart" and not control.may_restart:
                return CANNOT_RESTART
            else:
                is_drain = name == "drain"
                wanted = ShutdownRequest(on_stop="drain" if is_drain else "detach", start_again=not is_drain)
                return "" if control.shut_down(wanted) else "The agent is stopping already."
        except OSError as error:  # the state directory is full, or no longer writable
            return str(error)
        return ""


def _static(request: Request) -> Response:
    file = static_file(request.path_params["name"])
    if file is None:
        return _refused("There is no such file.", 404)
    packed = "gzip" in request.headers.get("accept-encoding", "")
    content, headers = file.packed if packed else file.content, file.headers(accepts_gzip=packed)
    return Response(content, 200, headers, media_type=file.media_type)


def _is_of_another_site(request: Request) -> bool:
    """Return whether a page of another site makes the request; links from anywhere are followed."""
    headers = request.headers
    if request.method == "POST":
        origin = headers.get("origin")
        return origin is not None and origin.partition("://")[2] != headers.get("host")
    site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode", "navigate")
    return site not in ("none", "same-origin") and mode != "navigate"


def _refused(sentence: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(
        f"{sentence}\n", status, {**PAGE_HEADERS, **(headers or {})}, media_type="text/plain; charset=utf-8"
    )
