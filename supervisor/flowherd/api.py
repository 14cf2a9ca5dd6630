"""The agent's own HTTP API: health, poke, what runs here, metrics. Served by a thread of the agent.

Loopback only, unless a token is set; with a token, everything but the bare health answer needs it. Knows no agent:
it is given four facts to ask for.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flowherd.decisions.health import Health
from flowherd.errors import ConfigurationError

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_START_TIMEOUT_S = 10.0
#: Requests under way when the agent stops get so long.
_STOP_TIMEOUT_S = 1


@dataclass(frozen=True, kw_only=True)
class ApiFacts:
    """What the API tells and does."""

    name: str
    health: Callable[[], Health]
    poke: Callable[[], None]
    #: One object a living run, with the figures of its processes.
    runs: Callable[[], list[dict[str, Any]]]


class AgentApi:
    """The API at one address, as in http://127.0.0.1:8080; port 0 picks a free one.

    Raises ConfigurationError when the address cannot be used.
    """

    def __init__(self, address: str, token: str, facts: ApiFacts) -> None:
        host, port = _host_and_port(address)
        if not token and not _is_loopback(host):
            raise ConfigurationError(
                f"agent address {address}: without a token the API is for this host only; "
                f"set FLOWHERD__AGENT__API_TOKEN, or use 127.0.0.1"
            )
        self._token = token
        self._facts = facts
        self._local_only = _is_loopback(host)
        self._registry = CollectorRegistry()
        self._registry.register(_RunsCollector(facts))
        self._socket = _bound(address, host, port)
        shown = f"[{host}]" if ":" in host else host
        self.address = f"http://{shown}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            self._app(), log_config=None, access_log=False, timeout_graceful_shutdown=_STOP_TIMEOUT_S, lifespan="off"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="api", daemon=True)

    def start(self) -> None:
        """Begin to serve; the port is open already."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and close the port."""
        self._server.should_exit = True
        self._thread.join(_START_TIMEOUT_S)
        self._socket.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/api/health", self._health),
                Route("/api/poke", self._guarded(self._poke), methods=["GET", "POST"]),
                Route("/api/runs", self._guarded(self._runs)),
                Route("/metrics", self._guarded(self._metrics)),
            ]
        )

    def _guarded(self, answer: Callable[[], Response]) -> Callable[[Request], Response]:
        def endpoint(request: Request) -> Response:
            refusal = self._refusal(request)
            return answer() if refusal is None else refusal

        return endpoint

    def _refusal(self, request: Request) -> Response | None:
        if self._token:
            if not self._knows_token(request):
                return JSONResponse({"error": "this needs the agent's API token"}, 401, {"WWW-Authenticate": "Bearer"})
        elif not self._named_rightly(request):
            return JSONResponse({"error": "this host's name in the request is not one of this API's"}, 400)
        return None

    def _knows_token(self, request: Request) -> bool:
        given = request.headers.get("authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode())

    def _named_rightly(self, request: Request) -> bool:
        # A web page that had its own name point to this host could else talk to the API (DNS rebinding).
        try:
            return not self._local_only or urlsplit(f"//{request.headers.get('host', '')}").hostname in _LOOPBACK_NAMES
        except ValueError:
            return False

    def _health(self, request: Request) -> Response:
        state = self._facts.health()
        detail = {"status": "ok" if state.well else "unwell", "reason": state.reason, "agent": self._facts.name}
        body = detail if self._refusal(request) is None else {}
        return JSONResponse(body, 200 if state.well else 503)

    def _poke(self) -> Response:
        self._facts.poke()
        return JSONResponse({})

    def _runs(self) -> Response:
        return JSONResponse({"agent": self._facts.name, "runs": self._facts.runs()})

    def _metrics(self) -> Response:
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)


class _RunsCollector(Collector):
    """Prometheus figures from the same facts, made when they are asked for."""

    def __init__(self, facts: ApiFacts) -> None:
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        runs = self._facts.runs()
        yield GaugeMetricFamily("flowherd_up", "1 when the agent is well", value=float(self._facts.health().well))
        yield GaugeMetricFamily("flowherd_runs", "flow runs on this host now", value=len(runs))
        memory = GaugeMetricFamily("flowherd_run_memory_bytes", "memory of a run's processes", labels=_RUN_LABELS)
        processes = GaugeMetricFamily("flowherd_run_processes", "processes of a run", labels=_RUN_LABELS)
        cpu = CounterMetricFamily("flowherd_run_cpu_seconds", "CPU time of a run's processes", labels=_RUN_LABELS)
        for run in runs:
            labels = [str(run.get("id", "")), str(run.get("flow", ""))]
            memory.add_metric(labels, run.get("memory_bytes", 0))
            processes.add_metric(labels, run.get("processes", 0))
            cpu.add_metric(labels, run.get("cpu_time_s", 0.0))
        yield from (memory, processes, cpu)

    def describe(self) -> Iterable[Metric]:
        return []


_RUN_LABELS = ["flow_run_id", "flow"]


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
        # With the protocol named, or asyncio sets no TCP_NODELAY and answers on kept connections wait 40 ms (tcp(7)).
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((target[0], port))
        listener.listen()
        return listener
    except OSError as error:
        raise ConfigurationError(f"agent address {address}: cannot listen there: {error}") from error
