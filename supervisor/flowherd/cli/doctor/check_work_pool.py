"""Checks the work pool as an agent with these settings would find it. Creates and changes nothing at the server."""

from __future__ import annotations

import time
from collections.abc import Iterator

from flowherd.backends.protocol import Backend
from flowherd.backends.registry import open_backend
from flowherd.cli.doctor.check_backend import check_clock
from flowherd.cli.doctor.check_route import check_route, refused_on_the_way
from flowherd.cli.doctor.finding import Finding, bad, ok, warn
from flowherd.config import LoadedSettings
from flowherd.config.catalogue import value_of
from flowherd.config.route import address_setting, route_of
from flowherd.errors import BackendError, BackendRefused, ConfigurationError, GatewayRefused, NotAuthorized

#: An answer that takes longer than this is slow, seconds.
_SLOW_S = 1.0


def check_work_pool(loaded: LoadedSettings) -> Iterator[Finding]:
    """Check whether the server answers, accepts the credentials, has the pool, and has the same time as this host."""
    try:
        backend = open_backend(loaded, only_look=True)
    except ConfigurationError as error:
        yield bad("backend", str(error), "set the address: -a, PREFECT_API_URL, or `prefect profile use`")
        return
    address = str(value_of(loaded.settings, address_setting(loaded)))
    yield from check_route(loaded, address)
    try:
        findings = list(_answers(backend, loaded))
    finally:
        backend.close()
    yield from findings
    if findings[0].grade != "bad":
        yield check_clock(f"{address}/health", route_of(loaded, address))


def _answers(backend: Backend, loaded: LoadedSettings) -> Iterator[Finding]:
    where = f"{backend.address} (from {loaded.origins[address_setting(loaded)]})"
    started_s = time.monotonic()
    own = loaded.settings.prefect3
    try:
        capabilities = backend.connect()
    except NotAuthorized as error:
        yield ok("backend", f"{where} answers")
        yield bad("credentials", str(error), "set PREFECT_API_KEY or PREFECT_API_AUTH_STRING, or choose a profile")
    except BackendRefused as error:
        yield from _without_pool(backend, own.pool, error, is_created=own.create_pool)
    except GatewayRefused as error:
        yield refused_on_the_way(where, error)
    except BackendError as error:
        yield bad("backend", f"{where}: {error}", "start the server, or set the right address")
    else:
        took_s = time.monotonic() - started_s
        answer = f"{capabilities.name}: {where} answers in {took_s * 1000:.0f} ms"
        slow = "every claim and report waits that long; check the network and the server"
        yield ok("backend", answer) if took_s < _SLOW_S else warn("backend", answer, slow)
        given = own.api_key or own.auth_string
        yield ok("credentials", "accepted" if given else "none are set, and none are needed")


def _without_pool(backend: Backend, pool: str, error: BackendRefused, *, is_created: bool) -> Iterator[Finding]:
    if error.code != "404":
        yield bad("backend", f"{backend.address}: {error}", "name a process work pool of a Prefect 3 server: --pool")
        return
    yield ok("backend", f"{backend.address} answers")
    if is_created:
        yield ok("work pool", f"{pool!r} is not there yet; the agent's start makes it")
    else:
        advice = f"`prefect work-pool create --type process {pool}`, or set prefect3.create_pool"
        yield bad("work pool", f"{pool!r} does not exist, and prefect3.create_pool is off", advice)
