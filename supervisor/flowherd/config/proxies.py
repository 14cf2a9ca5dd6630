"""The proxies of the environment, and the hosts that are reached without one.

The variables are those that Python's urllib reads, and with it requests (Prefect 0.x and 1.x) and httpx (Prefect 3):
HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, each in lower case too, which is stronger.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A proxy, and the environment variable that names it."""

    url: str = field(repr=False)
    variable: str


@dataclass(frozen=True, kw_only=True)
class Proxies:
    """The proxies for each scheme of addresses ("http", "https", "all"), and the exceptions from them."""

    by_scheme: Mapping[str, Proxy] = field(default_factory=dict)
    #: Entries of NO_PROXY: host names, endings of host names, addresses, networks, or *.
    exceptions: tuple[str, ...] = ()
    #: The variable that names them.
    exceptions_from: str = ""

    def proxy_for(self, address: str) -> Proxy | None:
        """Return the proxy through which an address is reached; None if it is reached directly."""
        proxy = self.proxy_of_scheme(address)
        return None if self.exception_for(address) else proxy

    def proxy_of_scheme(self, address: str) -> Proxy | None:
        """Return the proxy for addresses of this scheme, whether or not this one is an exception."""
        return self.by_scheme.get(urlsplit(address).scheme) or self.by_scheme.get("all")

    def exception_for(self, address: str) -> str | None:
        """Return the entry of NO_PROXY because of which an address is reached directly; None if there is none."""
        parts = urlsplit(address)
        host, port = (parts.hostname or "").lower(), parts.port or _DEFAULT_PORTS.get(parts.scheme)
        return next((entry for entry in self.exceptions if _covers(entry, host, port)), None)


def proxies_of(environ: Mapping[str, str]) -> Proxies:
    """Return the proxies that the environment names. An empty variable in lower case switches its proxy off."""
    found = {}
    for scheme in ("http", "https", "all"):
        variable, value = _variable(environ, f"{scheme}_proxy")
        if value:
            found[scheme] = Proxy(url=value if "://" in value else f"http://{value}", variable=variable)
    variable, value = _variable(environ, "no_proxy")
    exceptions = tuple(entry.strip() for entry in value.split(",") if entry.strip())
    return Proxies(by_scheme=found, exceptions=exceptions, exceptions_from=variable)


def _variable(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    """Return the variable that counts, and its value; in a CGI program HTTP_PROXY is a header of the request."""
    names = [name] if name == "http_proxy" and "REQUEST_METHOD" in environ else [name, name.upper()]
    return next(((one, environ[one].strip()) for one in names if one in environ), ("", ""))


def _covers(entry: str, host: str, port: int | None) -> bool:
    """Whether an entry of NO_PROXY covers a host: by any of the rules that requests, httpx and urllib have."""
    if entry == "*":
        return True
    name = entry.rpartition("://")[2].lower()
    if name in (host, f"[{host}]", f"{host}:{port}", f"[{host}]:{port}"):
        return True
    address, network = _address(host), _network(name)
    if address is not None:
        return network is not None and address.version == network.version and address in network
    ending = name.removeprefix("*").removeprefix(".")
    return bool(ending) and (host == ending or f"{host}:{port}".endswith((f".{ending}", f".{ending}:{port}")))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return None
