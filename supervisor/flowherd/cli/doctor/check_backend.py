"""Checks the API as an agent with these settings would find it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from flowherd.backends.discovery import Api, client_token, find_api
from flowherd.backends.graphql.backend import GraphQLBackend
from flowherd.backends.graphql.open_graphql import transport_to
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.backends.http import HttpClient
from flowherd.cli.doctor.check_route import check_route, refused_on_the_way
from flowherd.cli.doctor.finding import Finding, bad, ok, warn
from flowherd.config import LoadedSettings
from flowherd.config.route import Route
from flowherd.config.urls import without_user
from flowherd.errors import BackendError, ConfigurationError, GatewayRefused, NotAuthorized

#: An answer that takes longer than this is slow, seconds.
_SLOW_S = 1.0
#: Differences of the clocks below this are not measured: a Date header has whole seconds, and the answer takes time.
_CLOCK_NOISE_S = 2.0
_CLOCK_BAD_S = 60.0
_CLOCK_TIMEOUT_S = 5.0


def check_backend(loaded: LoadedSettings) -> Iterator[Finding]:
    """Check whether it answers, accepts the token, and has the same time as this host."""
    try:
        api = find_api(loaded)
    except ConfigurationError as error:  # a server.json that another user may have written
        yield bad("backend", str(error), "look who put it there")
        return
    if api is None:
        yield ok("backend", "none is set and no embedded server is running; `flowherd start` starts one beside itself")
        return
    token = loaded.settings.cloud.agent.auth_token or client_token(loaded, api)
    try:
        transport = transport_to(loaded, api, token)
    except ConfigurationError as error:
        yield bad("backend", str(error), "correct the setting, or create the file")
        return
    yield from check_route(loaded, api.address)
    try:
        found = list(_answers(transport, api, loaded, has_token=bool(token)))
    finally:
        transport.close()
    yield from found
    if found[0].grade != "bad":
        yield check_clock(transport.base, transport.route)


def _answers(transport: GraphQLTransport, api: Api, loaded: LoadedSettings, *, has_token: bool) -> Iterator[Finding]:
    started_s = time.monotonic()
    where = f"{without_user(api.address)} (from {api.found_by})"
    try:
        transport.execute("query { hello }")
        took_s = time.monotonic() - started_s
        if loaded.settings.backend == "cloud":
            GraphQLBackend(transport).check_token()
    except NotAuthorized as error:
        yield ok("backend", f"{where} answers")
        yield bad("token", str(error), "set PREFECT__CLOUD__AGENT__AUTH_TOKEN, or ..._FILE to a file that contains it")
        return
    except GatewayRefused as error:
        yield refused_on_the_way(where, error)
        return
    except BackendError as error:
        yield bad("backend", f"{where}: {error}", _advice_for_no_answer(transport))
        return
    answer = f"{where} answers in {took_s * 1000:.0f} ms"
    slow = "every claim and report waits that long; check the network and the server"
    yield ok("backend", answer) if took_s < _SLOW_S else warn("backend", answer, slow)
    yield ok("token", "accepted" if has_token else "none is set, and none is needed")


def _advice_for_no_answer(transport: GraphQLTransport) -> str:
    proxy = transport.route.proxies.proxy_for(transport.endpoint)
    if proxy is None:
        return "start the server, or set the right address: -a, PREFECT__CLOUD__API"
    return (
        f"it was asked by the proxy that {proxy.variable} names: check that one and the server's address, or name the "
        "server in NO_PROXY to reach it directly"
    )


def check_clock(address: str, route: Route) -> Finding:
    """Check whether the server at `address` has the same time as this host."""
    client = HttpClient({}, route)
    try:
        asked = time.time()
        answer = client.send("GET", address, timeout_s=_CLOCK_TIMEOUT_S)
        between = (asked + time.time()) / 2
        # + 0.5: the middle of the second that the header names.
        offset_s = parsedate_to_datetime(answer.headers["Date"]).timestamp() + 0.5 - between
    except (BackendError, KeyError, ValueError):
        return warn("clock", "the API does not send its time", "compare the clocks by hand: `timedatectl`")
    finally:
        client.close()
    if abs(offset_s) < _CLOCK_NOISE_S:
        return ok("clock", "agrees with the API's")
    words = f"the API's clock is {abs(offset_s):.0f} s {'ahead of' if offset_s > 0 else 'behind'} this host's"
    advice = "schedules and log times are off by as much; run a time service (chrony, systemd-timesyncd)"
    return warn("clock", words, advice) if abs(offset_s) < _CLOCK_BAD_S else bad("clock", words, advice)
