"""Shows what is in force on the way to the API: proxy, authorities, client certificate, headers, verification."""

from __future__ import annotations

from collections.abc import Iterator

from flowherd.cli.doctor.finding import Finding, bad, ok, warn
from flowherd.config import LoadedSettings
from flowherd.config.route import facts_of, unverified
from flowherd.errors import GatewayRefused


def check_route(loaded: LoadedSettings, address: str) -> Iterator[Finding]:
    """Yield what is in force beside the defaults, each with where it came from."""
    for fact in facts_of(loaded, address):
        yield ok(fact.what, f"{fact.value} (from {fact.origin})")
    warning = unverified(loaded)
    if warning:
        yield warn("TLS", warning, "name the authority of its certificate instead: docs/reference/way-to-the-server.md")


def refused_on_the_way(where: str, error: GatewayRefused) -> Finding:
    """Return the finding for an answer of something else than the API. Whether the API takes the token is not known."""
    advice = (
        "ask who runs the proxy or gate; it may need HTTPS_PROXY, NO_PROXY, a client certificate or a header "
        "(docs/reference/way-to-the-server.md). The API's token was not checked"
    )
    return bad("backend", f"{where}: {error}", advice)
