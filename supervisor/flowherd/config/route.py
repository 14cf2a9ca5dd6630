"""How an API is reached: authorities, client certificate, headers and proxies, and where each came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flowherd.config.catalogue import value_of
from flowherd.config.loading import LoadedSettings
from flowherd.config.origins import Origin, Source
from flowherd.config.proxies import Proxies
from flowherd.config.urls import without_user
from flowherd.errors import ConfigurationError

if TYPE_CHECKING:  # imported when it is needed: a command without TLS does without
    import ssl

#: Headers that belong to the request itself or to the client, and are not replaced; Prefect 3 has the same rule.
_PROTECTED = frozenset(
    {"user-agent", "prefect-csrf-token", "prefect-csrf-client", "host", "connection", "content-length", "content-type"}
)
#: What is shown as the origin of the API's address when the agent has started the server itself, or found it running.
EMBEDDED_SERVER = "the embedded server"


@dataclass(frozen=True, kw_only=True)
class Route:
    """The way to one API, for requests, wakes and websockets alike; by default direct, with the usual authorities."""

    #: File or directory with the certificate authorities to trust; empty: those of certifi.
    authorities: str = ""
    #: File with the client certificate, and with its key unless `client_key` has it; empty: none.
    client_cert: str = ""
    client_key: str = ""
    #: Headers for every request.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: Whether the server's certificate is verified.
    verify: bool = True
    proxies: Proxies = field(default_factory=Proxies)
    #: Whether the API is the embedded server, for which no proxy of the environment counts.
    is_embedded: bool = False

    def proxy_url(self, address: str) -> str | None:
        """Return the URL of the proxy through which an address is reached; None if it is reached directly."""
        proxy = self.proxies.proxy_for(address)
        return None if proxy is None else proxy.url

    def tls_context(self) -> ssl.SSLContext:
        """Return a context for connections that requests does not make. Raises OSError if a file cannot be used."""
        import ssl

        place = self.authorities or _usual_authorities()
        if not self.verify:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif Path(place).is_dir():
            context = ssl.create_default_context(capath=place)
        else:
            context = ssl.create_default_context(cafile=place)
        if self.client_cert:
            context.load_cert_chain(self.client_cert, self.client_key or None, password=_refuse_password)
        return context


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One part of the way that is in force."""

    what: str
    value: str
    origin: str


def route_of(loaded: LoadedSettings, address: str, *, of_pool: bool | None = None, embedded: bool = False) -> Route:
    """Return the way to the API at `address`, with files that can be used.

    `of_pool` says whether it is that of a work pool; by default that of the backend that the settings choose.
    `embedded` says that it is the embedded server, also if its address is set. Raises ConfigurationError, which names
    the setting and its origin.
    """
    names = _names(loaded, of_pool)
    values = {part: value_of(loaded.settings, name) for part, name in names.items()}
    embedded = embedded or is_embedded(loaded, address)
    route = Route(
        authorities=_expanded(values["authorities"]),
        client_cert=_expanded(values["client_cert"]),
        client_key=_expanded(values["client_key"]),
        headers={name: value for name, value in values["headers"].items() if name.lower() not in _PROTECTED},
        verify=not values["skip_verify"],
        proxies=Proxies() if embedded else loaded.proxies,
        is_embedded=embedded,
    )
    if address.startswith("https:"):
        _check_files(route, {part: f"{name}, from {loaded.origins[name]}" for part, name in names.items()})
    return route


def facts_of(loaded: LoadedSettings, address: str = "") -> list[Fact]:
    """Return what is in force on the way to the API beside the defaults; no secret is in it.

    Without an `address` it is that of the settings.
    """
    address = address or _address(loaded)
    names = _names(loaded, None)
    facts = list(_proxy_facts(loaded, address))
    for part, what in (
        ("authorities", "authorities"),
        ("client_cert", "client certificate"),
        ("client_key", "client key"),
    ):
        value = value_of(loaded.settings, names[part])
        is_unused = part == "authorities" and value_of(loaded.settings, names["skip_verify"])
        if value and address.startswith("https:") and not is_unused:
            facts.append(Fact(what=what, value=str(value), origin=str(loaded.origins[names[part]])))
    headers = value_of(loaded.settings, names["headers"])
    if headers:
        facts.append(Fact(what="headers", value=", ".join(headers), origin=str(loaded.origins[names["headers"]])))
    return facts


def address_setting(loaded: LoadedSettings) -> str:
    """Return the name of the setting with the API's address; an address on the command line is for either API."""
    is_typed = loaded.origins["cloud.api"].source is Source.ARGUMENT
    return (
        "prefect3.api"
        if loaded.settings.uses_work_pool and loaded.settings.prefect3.api and not is_typed
        else "cloud.api"
    )


def unverified(loaded: LoadedSettings) -> str:
    """Return the warning that the certificate of the API is not verified; empty if it is, or if there is no TLS."""
    name = _names(loaded, None)["skip_verify"]
    address = _address(loaded)
    if not value_of(loaded.settings, name) or not address.startswith("https:"):
        return ""
    return (
        f"The certificate of {without_user(address)} is not verified ({name}, from {loaded.origins[name]}): anyone "
        "between here and there can read and change what is sent, the token too"
    )


def is_embedded(loaded: LoadedSettings, address: str) -> bool:
    """Whether the address is that of the embedded server, which is on this host and never behind a proxy."""
    origin = loaded.origins["cloud.api"]
    if origin.source is Source.ARGUMENT and origin.name == EMBEDDED_SERVER:
        return address == loaded.settings.cloud.api
    return origin.source is Source.DEFAULT and not loaded.settings.cloud.graphql and not loaded.settings.uses_work_pool


def _address(loaded: LoadedSettings) -> str:
    """Return the address of the settings; empty if they leave it to the embedded server."""
    address = str(value_of(loaded.settings, address_setting(loaded)))
    return address or ("" if loaded.settings.uses_work_pool else loaded.settings.cloud.graphql)


def _names(loaded: LoadedSettings, of_pool: bool | None) -> dict[str, str]:
    """Return the settings of each part of the way."""
    of_pool = loaded.settings.uses_work_pool if of_pool is None else of_pool
    section = "prefect3" if of_pool else "cloud"
    return {
        "authorities": "prefect3.ssl_cert_file" if of_pool else "cloud.ca_bundle",
        "client_cert": f"{section}.client_cert",
        "client_key": f"{section}.client_key",
        "headers": f"{section}.custom_headers",
        "skip_verify": f"{section}.tls_insecure_skip_verify",
    }


def _proxy_facts(loaded: LoadedSettings, address: str) -> list[Fact]:
    proxies = loaded.proxies
    proxy, exception = proxies.proxy_of_scheme(address), proxies.exception_for(address)
    if proxy is None or is_embedded(loaded, address):
        return []
    if exception is not None:
        value = f"none, because of {exception} in {proxies.exceptions_from}"
        return [Fact(what="proxy", value=value, origin=f"variable {proxies.exceptions_from}")]
    return [Fact(what="proxy", value=without_user(proxy.url), origin=str(_origin(proxy.variable)))]


def _origin(variable: str) -> Origin:
    return Origin(source=Source.ENVIRONMENT, name=variable)


def _check_files(route: Route, settings: Mapping[str, str]) -> None:
    """Raise ConfigurationError if a file of the way is missing or cannot be used."""
    for part in ("authorities", "client_cert", "client_key"):
        place = getattr(route, part)
        if place and (part != "authorities" or route.verify) and not Path(place).exists():
            raise ConfigurationError(f"{settings[part]}: there is no file {place}")
    try:
        route.tls_context()
    except (OSError, ValueError) as error:
        part = "client_cert" if route.client_cert else "authorities"
        places = " and ".join(filter(None, (route.client_cert, route.client_key) if route.client_cert else ()))
        reason = f"{places or route.authorities} cannot be used for TLS: {error}"
        raise ConfigurationError(f"{settings[part]}: {reason}") from error


def _expanded(path: str) -> str:
    return str(Path(path).expanduser()) if path else ""


def _usual_authorities() -> str:
    """Return the file that requests uses too."""
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    return str(DEFAULT_CA_BUNDLE_PATH)


def _refuse_password() -> str:
    raise ValueError("its key is encrypted, and there is no one to ask for the password")
