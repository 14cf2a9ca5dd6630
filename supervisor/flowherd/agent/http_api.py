"""The agent's own HTTP API: health, poke, pause, drain, restart, runs, metrics. Served by a thread of its own.

Over TCP only on loopback, unless a token is set; with a token, everything except the bare health answer needs it. On
the control socket in the state directory no token is needed. Knows no agent, only functions that return facts.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import math
import os
import socket
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flowherd.agent.agent_metrics import AgentMetrics
from flowherd.agent.control import Control
from flowherd.agent.health import Health
from flowherd.agent.orders import CANNOT_RESTART
from flowherd.agent.pages.routes import HostPages
from flowherd.agent.passed_sockets import place_of
from flowherd.agent.platform import Figures
from flowherd.agent.run_records import RunRecords
from flowherd.agent.shutdown import ShutdownRequest
from flowherd.agent.socket_peers import RefusingRuns, refusal
from flowherd.errors import ConfigurationError
from flowherd.http_connections import BACKLOG, BoundedServer, server_config
from flowherd.http_limits import Limits
from flowherd.story.agent_report import AgentReport

if TYPE_CHECKING:
    from flowherd.client.client import Client

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
#: How long requests that are under way may go on when the agent stops, seconds.
_STOP_TIMEOUT_S = 1
_LONGEST_DRAIN_S = 30 * 86400
#: Values of ?runs= that ask for the metrics of each run.
_YES = frozenset({"1", "true", "yes"})
#: No request to an agent has a body. The runs need most of the descriptors.
_LIMITS = Limits(connections=64, reserve=192, request_bytes=64 * 1024)


@dataclass(frozen=True)
class ApiFacts:
    """What the API shows and does."""

    name: str
    health: Callable[[], Health]
    poke: Callable[[], None]
    #: Returns one object for each run that has not ended, with what its processes use, and the processes of those runs
    #: whose ids it is given.
    runs: Callable[[Collection[str]], list[dict[str, Any]]]
    control: Control
    figures: Callable[[], Figures]
    #: Returns what the agent reports of itself.
    report: Callable[[], AgentReport]
    metrics: AgentMetrics
    #: Returns what is known of the runs, for the pages.
    records: Callable[[], RunRecords]
    #: Returns a client of the agent's server. Raises FlowherdError if no client knows such a server.
    open_client: Callable[[], Client]
    #: Returns what a process belongs to, as in "flow run ID"; None if to no run.
    belongs_to: Callable[[int], str | None] = lambda _pid: None


class AgentApi:
    """The API at one address, as in http://127.0.0.1:8080; port 0 picks a free one.

    `passed` is a socket that listens there already. Raises ConfigurationError when the address cannot be used.
    """

    def __init__(self, address: str, token: str, facts: ApiFacts, passed: socket.socket | None = None) -> None:
        host, port = _host_and_port(address) if passed is None else (place_of(passed)[0], 0)
        if not token and not _is_loopback(host):
            raise ConfigurationError(
                f"agent address {address}: without a token the API is for this host only; "
                f"set FLOWHERD__AGENT__API_TOKEN, or use 127.0.0.1"
            )
        self._token = token
        self._local_only = _is_loopback(host)
        listener = _bound(address, host, port) if passed is None else passed
        shown = f"[{host}]" if ":" in host else host
        self.address = address if passed is not None else f"http://{shown}:{listener.getsockname()[1]}"
        pages = HostPages(facts, token, self._named_rightly).routes()
        self._thread = HttpThread(Routes(facts, self._refusal, pages).app, listener, "api", facts.belongs_to)

    def start(self) -> None:
        """Start serving; the port is open already."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and close the port."""
        self._thread.stop()

    def _refusal(self, request: Request) -> Response | None:
        if self._token:
            if not self._knows_token(request):
                return JSONResponse({"error": "this needs the agent's API token"}, 401, {"WWW-Authenticate": "Bearer"})
        elif not self._named_rightly(request):
            return JSONResponse({"error": "the Host header does not name this host"}, 400)
        elif _is_of_a_page(request) and (request.method == "POST" or request.url.path == "/api/poke"):
            return JSONResponse({"error": "web pages may not do this without a token"}, 403)
        return None

    def _knows_token(self, request: Request) -> bool:
        given = request.headers.get("authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode())

    def _named_rightly(self, request: Request) -> bool:
        # Otherwise a web page whose own name resolves to this host could talk to the API (DNS rebinding).
        try:
            return not self._local_only or urlsplit(f"//{request.headers.get('host', '')}").hostname in _LOOPBACK_NAMES
        except ValueError:
            return False


def _is_of_a_page(request: Request) -> bool:
    """Return whether a web page makes the request, which can come from anywhere (CSRF).

    Browsers send Origin with each POST, and with the GET of an image Sec-Fetch-Site alone (Fetch Metadata).
    """
    return "origin" in request.headers or request.headers.get("sec-fetch-site", "none") != "none"


def _two_ends(request: Request) -> Response | None:
    """Refuse a request of which a proxy may have read another end than this server (RFC 9112, section 6.3)."""
    if "content-length" in request.headers and "transfer-encoding" in request.headers:
        error = {"error": "a request has Content-Length or Transfer-Encoding, not both"}
        return JSONResponse(error, 400, {"Connection": "close"})
    return None


class Routes:
    """The API's routes. `refusal` is called first for everything except the bare health answer, and for `pages`."""

    def __init__(self, facts: ApiFacts, refusal: Callable[..., Response | None], pages: Sequence[Route] = ()) -> None:
        self._facts = facts
        self._refusal = refusal
        self.app = Starlette(
            routes=[
                Route("/api/health", self._health),
                Route("/api/poke", self._guarded(self._poke), methods=["GET", "POST"]),
                Route("/api/runs", self._guarded(self._runs)),
                Route("/api/agent", self._guarded(self._agent)),
                Route("/api/pause", self._guarded(self._pause), methods=["POST"]),
                Route("/api/resume", self._guarded(self._resume), methods=["POST"]),
                Route("/api/drain", self._guarded(self._drain), methods=["POST"]),
                Route("/api/restart", self._guarded(self._restart), methods=["POST"]),
                Route("/api/reload", self._guarded(self._reload), methods=["POST"]),
                Route("/metrics", self._guarded(self._metrics)),
                *pages,
            ]
        )

    def _guarded(self, answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
        def endpoint(request: Request) -> Response:
            refusal = _two_ends(request) or self._refusal(request)
            if refusal is not None:
                return refusal
            try:
                return answer(request)
            except OSError as error:  # the state directory is full, or no longer writable
                return JSONResponse({"error": str(error)}, 500)

        return endpoint

    def _health(self, request: Request) -> Response:
        if refusal := _two_ends(request):
            return refusal
        state = self._facts.health()
        body = self._status(state) if self._refusal(request) is None else {}
        return JSONResponse(body, 200 if state.well else 503)

    def _status(self, state: Health) -> dict[str, Any]:
        claim_pause = state.claim_pause
        word = "unwell" if not state.well else claim_pause.word if claim_pause else "ok"
        reasons = [text for text in (state.reason, claim_pause.reason if claim_pause else "") if text]
        return {"status": word, "reason": "; ".join(reasons), "agent": self._facts.name}

    def _poke(self, request: Request) -> Response:
        self._facts.poke()
        return JSONResponse({})

    def _runs(self, request: Request) -> Response:
        looked_at = request.query_params.getlist("processes")
        return JSONResponse({"agent": self._facts.name, "runs": self._facts.runs(looked_at)})

    def _agent(self, request: Request) -> Response:
        return JSONResponse(self._description())

    def _description(self) -> dict[str, Any]:
        control = self._facts.control
        return {
            **self._status(self._facts.health()),
            "pid": os.getpid(),
            "instance": control.instance,
            "paused": control.paused,
            **asdict(self._facts.figures()),
            "report": self._facts.report().as_json(),
        }

    def _pause(self, request: Request) -> Response:
        self._facts.control.pause()
        return self._agent(request)

    def _resume(self, request: Request) -> Response:
        self._facts.control.resume()
        self._facts.poke()
        return self._agent(request)

    def _drain(self, request: Request) -> Response:
        deadline_s: float | None = None
        given = request.query_params.get("deadline_s")
        if given is not None:
            try:
                deadline_s = float(given)
            except ValueError:
                deadline_s = math.nan
            if not 0 <= deadline_s <= _LONGEST_DRAIN_S:
                return JSONResponse({"error": f"deadline_s must be a number of seconds up to {_LONGEST_DRAIN_S}"}, 400)
        return self._shut_down(request, ShutdownRequest(on_stop="drain", deadline_s=deadline_s))

    def _restart(self, request: Request) -> Response:
        control = self._facts.control
        if request.query_params.get("by") == "supervisor":
            control.keep_runs_at_stop()
            return self._agent(request)
        if not control.may_restart:
            return JSONResponse({"error": CANNOT_RESTART}, 409)
        return self._shut_down(request, ShutdownRequest(on_stop="detach", start_again=True))

    def _reload(self, request: Request) -> Response:
        reload = self._facts.control.reload
        if reload is None or self._facts.control.shutdown_request is not None:
            return JSONResponse({"error": "the agent is stopping" if reload else "this agent cannot reload"}, 409)
        report = reload("a request to its API")
        return JSONResponse({**self._description(), "reload": report.as_json()})

    def _shut_down(self, request: Request, shutdown: ShutdownRequest) -> Response:
        if not self._facts.control.shut_down(shutdown):
            return JSONResponse({"error": "the agent is already stopping"}, 409)
        return self._agent(request)

    def _metrics(self, request: Request) -> Response:
        by_run = request.query_params.get("runs", "") in _YES
        text, media_type = self._facts.metrics.text(by_run=by_run, accept=request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": media_type})


class HttpThread:
    """One app on one listening socket, served by a thread that costs nothing while there are no requests.

    On a Unix socket it answers no run: see socket_peers.py.
    """

    def __init__(
        self, app: Starlette, listener: socket.socket, name: str, belongs_to: Callable[[int], str | None]
    ) -> None:
        served = RefusingRuns(app)
        config = server_config(served, stop_timeout_s=_STOP_TIMEOUT_S, loop="asyncio", date_header=False)
        self._listener = listener
        self._server = _Server(config, name, lambda connected: refusal(connected, belongs_to))
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start serving; the socket is open already."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and close the socket."""
        self._server.stop()
        if self._thread.is_alive():
            self._thread.join(2 * _STOP_TIMEOUT_S)
        self._listener.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._listener])


class _Server(BoundedServer):
    """uvicorn without its ten ticks a second, which serve settings that are not used here."""

    def __init__(self, config: uvicorn.Config, name: str, refusal: Callable[[socket.socket], str]) -> None:
        super().__init__(config, f"the agent's {name}", _LIMITS, refusal)
        self._stopped: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def main_loop(self) -> None:
        self.server_state.default_headers = list(self.config.encoded_headers)
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        if not self.should_exit:
            await self._stopped.wait()

    def stop(self) -> None:
        """End `main_loop`; from any thread."""
        self.should_exit = True
        if self._loop is not None and self._stopped is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(self._stopped.set)


def _host_and_port(address: str) -> tuple[str, int]:
    try:
        parts = urlsplit(address if "//" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"agent address {address!r}: {error}") from error
    if port is None:
        raise ConfigurationError(f"agent address {address!r}: name a port, as in http://127.0.0.1:8080")
    return host or "127.0.0.1", port


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bound(address: str, host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # Without the protocol asyncio sets no TCP_NODELAY, and answers on kept connections wait 40 ms (tcp(7)).
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((target[0], port))
        listener.listen(BACKLOG)
        return listener
    except OSError as error:
        raise ConfigurationError(f"agent address {address}: cannot listen there: {error}") from error
