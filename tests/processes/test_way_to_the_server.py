"""A GraphQL server behind what firms put in front of it: requests and wakes reach it, as Prefect's own clients do."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from flowherd.backends.discovery import find_api, is_left_to_embedded_server
from flowherd.backends.graphql.backend import GraphQLBackend
from flowherd.backends.registry import open_backend
from flowherd.config import LoadedSettings, load_settings
from flowherd.config.route import EMBEDDED_SERVER
from flowherd.errors import BackendUnavailable, ConfigurationError, GatewayRefused
from flowherd.values import AgentIdentity
from tests.support.certificates import Certificates, make_certificates
from tests.support.gates import Gate, standing
from tests.support.leftovers import none_left
from tests.support.server import ServerProcess, running_server

IDENTITY = AgentIdentity(type="Agent", name="behind a gate", labels=("gate",))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with none_left(), running_server(tmp_path_factory.mktemp("gated") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def target(server: ServerProcess) -> int:
    return int(server.url.rpartition(":")[2])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def reaches(address: str, environ: Mapping[str, str] | None = None, **cloud: Any) -> GraphQLBackend:
    """Connect as an agent does, register, and have a wake answered over HTTP; return the connection."""
    overrides = {"cloud.api": address, **{f"cloud.{name}": value for name, value in cloud.items()}}
    backend = open_backend(load_settings(overrides, environ={"FLOWHERD_HOME": "/nowhere", **(environ or {})}))
    assert isinstance(backend, GraphQLBackend)
    try:
        assert backend.connect().wakes
        backend.register(IDENTITY)
        woken = threading.Thread(target=GraphQLBackend.wait_for_wake, args=(backend, 0, 0.05))
        woken.start()
        woken.join(20)
        assert not woken.is_alive()
        assert GraphQLBackend.wait_for_wake(backend, 0, 0.05).sequence >= 0
    finally:
        backend.close()
    return backend


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "FLOWHERD__CLOUD__CA_BUNDLE"])
def test_a_private_authority_is_trusted_where_requests_trusts_it(
    target: int, certificates: Certificates, variable: str
) -> None:
    with standing(Gate(target, certificates=certificates)) as gate:
        reaches(f"https://localhost:{gate.port}", {variable: str(certificates.authority)})


def test_an_unknown_authority_is_refused_and_an_unverified_one_is_not(target: int, certificates: Certificates) -> None:
    with standing(Gate(target, certificates=certificates)) as gate:
        with pytest.raises(BackendUnavailable, match="certificate verify failed"):
            reaches(f"https://localhost:{gate.port}")
        reaches(f"https://localhost:{gate.port}", tls_insecure_skip_verify=True)


def test_a_client_certificate_is_shown_in_one_file_or_two(target: int, certificates: Certificates) -> None:
    with standing(Gate(target, certificates=certificates, asks_client=True)) as gate:
        address, trusted = f"https://localhost:{gate.port}", {"ca_bundle": str(certificates.authority)}
        with pytest.raises(BackendUnavailable):
            reaches(address, **trusted)
        reaches(address, **trusted, client_cert=str(certificates.client))
        two = {"client_cert": str(certificates.client_cert), "client_key": str(certificates.client_key)}
        reaches(address, **trusted, **two)


def test_files_that_cannot_be_used_are_named_with_their_setting(tmp_path: Path, certificates: Certificates) -> None:
    for given, named in (
        ({"ca_bundle": str(tmp_path / "none.pem")}, r"cloud\.ca_bundle.*no file"),
        ({"client_cert": str(certificates.client_cert)}, r"cloud\.client_cert.*cannot be used"),
    ):
        with pytest.raises(ConfigurationError, match=named):
            reaches("https://localhost:1", **given)


def test_a_file_of_authorities_that_goes_away_later_is_a_server_that_cannot_be_reached(
    target: int, certificates: Certificates, tmp_path: Path
) -> None:
    kept = tmp_path / "authority.pem"
    kept.write_bytes(certificates.authority.read_bytes())
    with standing(Gate(target, certificates=certificates)) as gate:
        backend = reaches(f"https://localhost:{gate.port}", {"REQUESTS_CA_BUNDLE": str(kept)})
        kept.unlink()
        with pytest.raises(BackendUnavailable, match=str(kept)):
            backend.connect()
        backend.close()


def test_headers_open_a_gate_that_wants_them(target: int) -> None:
    with standing(Gate(target, needs={"X-Gate-Key": "let-me-in"})) as gate:
        with pytest.raises(GatewayRefused, match="403"):
            reaches(f"http://127.0.0.1:{gate.port}")
        reaches(f"http://127.0.0.1:{gate.port}", custom_headers={"X-Gate-Key": "let-me-in"})


@pytest.mark.parametrize("path", ["/firm/prefect", "/firm/prefect/graphql"])
def test_a_path_before_the_api_is_kept_for_requests_and_wakes(target: int, path: str) -> None:
    with standing(Gate(target, prefix="/firm/prefect")) as gate:
        reaches(f"http://127.0.0.1:{gate.port}{path}")
        assert any(line.startswith("GET /firm/prefect/agents/") for line in gate.seen)


def test_a_gate_that_has_the_api_only_as_prefect_0_posts_to_it_is_found(target: int) -> None:
    with standing(Gate(target, prefix="/firm", knows="/firm/graphql")) as gate:
        backend = open_backend(load_settings({"cloud.api": f"http://127.0.0.1:{gate.port}/firm"}))
        assert backend.connect().wakes
        access = backend.engine_access()
        assert access is not None and access.endpoint == f"http://127.0.0.1:{gate.port}/firm/graphql"
        backend.close()


def test_an_ipv6_address_is_reached(target: int) -> None:
    with standing(Gate(target, host="::1")) as gate:
        reaches(f"http://[::1]:{gate.port}")


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_is_used_for_a_server_that_only_it_can_find(target: int, variable: str) -> None:
    with standing(Gate(target)) as proxy:
        reaches("http://prefect.firm.example:4200", {variable: f"http://127.0.0.1:{proxy.port}"})
        assert any("http://prefect.firm.example:4200/agents/" in line for line in proxy.seen)


def test_tls_goes_through_a_proxy_as_a_tunnel(target: int, certificates: Certificates) -> None:
    with standing(Gate(target, certificates=certificates)) as gate, standing(Gate(gate.port)) as proxy:
        environ = {"HTTPS_PROXY": f"127.0.0.1:{proxy.port}", "REQUESTS_CA_BUNDLE": str(certificates.authority)}
        reaches(f"https://localhost:{gate.port}", environ)
        assert proxy.seen and all(line.startswith(f"CONNECT localhost:{gate.port}") for line in proxy.seen)


@pytest.mark.parametrize("exception", ["127.0.0.1", "*", "127.0.0.0/8", ".example, 127.0.0.1"])
def test_exceptions_from_a_dead_proxy_are_reached_directly(server: ServerProcess, exception: str) -> None:
    dead = {"HTTP_PROXY": "http://127.0.0.1:9"}
    with pytest.raises(BackendUnavailable, match="through the proxy http"):
        reaches(server.url, dead)
    reaches(server.url, {**dead, "NO_PROXY": exception})


def test_a_proxy_gets_its_password_which_is_in_no_message(target: int) -> None:
    basic = {"Proxy-Authorization": "Basic bWU6cHctMTIz"}  # me:pw-123
    with standing(Gate(target, needs=basic)) as proxy:
        reaches("http://prefect.firm.example", {"HTTP_PROXY": f"http://me:pw-123@127.0.0.1:{proxy.port}"})
        with pytest.raises(GatewayRefused, match="407") as caught:
            reaches("http://prefect.firm.example", {"HTTP_PROXY": f"http://me:wrong-456@127.0.0.1:{proxy.port}"})
        with pytest.raises(GatewayRefused, match="407"):
            reaches("https://prefect.firm.example", {"HTTPS_PROXY": f"http://me:wrong-456@127.0.0.1:{proxy.port}"})
    assert "wrong-456" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "page"),
    [
        ("403 Forbidden", "<html><title>Blocked by policy</title></html>"),
        ("401 Unauthorized", "<html><title>Sign in</title></html>"),
        ("200 OK", "<!DOCTYPE html><title>Welcome</title>"),
        ("403 Forbidden", '{"message": "Forbidden"}'),
    ],
)
def test_an_answer_of_a_gate_is_no_judgement_on_the_token(target: int, status: str, page: str) -> None:
    with standing(Gate(target, refuses=(status, page))) as gate, pytest.raises(GatewayRefused) as caught:
        reaches(f"http://127.0.0.1:{gate.port}")
    assert page.partition("<title>")[2].partition("<")[0] in str(caught.value)


def test_a_redirect_is_followed_on_the_same_host_only(server: ServerProcess, target: int) -> None:
    with standing(Gate(target, moves_to="")) as gate, standing(Gate(target)) as moved:
        gate.moves_to = f"http://127.0.0.1:{gate.port}/moved"
        with pytest.raises(GatewayRefused, match="redirect"):  # in a circle
            reaches(f"http://127.0.0.1:{gate.port}")
        gate.moves_to = f"http://localhost:{moved.port}/graphql"
        with pytest.raises(GatewayRefused, match=f"a redirect to http://localhost:{moved.port}"):
            reaches(f"http://127.0.0.1:{gate.port}")
    assert moved.seen == []


def test_a_redirect_from_http_to_https_is_followed(target: int, certificates: Certificates) -> None:
    with standing(Gate(target, certificates=certificates)) as gate, standing(Gate(target)) as plain:
        plain.moves_to = f"https://localhost:{gate.port}/graphql"
        trusted = {"REQUESTS_CA_BUNDLE": str(certificates.authority), "FLOWHERD_HOME": "/nowhere"}
        backend = open_backend(load_settings({"cloud.api": f"http://localhost:{plain.port}"}, environ=trusted))
        assert backend.connect().wakes
        backend.close()


def test_the_embedded_server_is_reached_without_a_proxy(server: ServerProcess) -> None:
    dead = {"FLOWHERD_HOME": "/nowhere", "HTTP_PROXY": "http://127.0.0.1:9"}
    loaded = load_settings({"cloud.api": server.url}, environ=dead, argument_names={"cloud.api": EMBEDDED_SERVER})
    backend = open_backend(loaded)
    assert backend.connect().wakes
    backend.close()


def test_an_unverified_certificate_is_a_warning_at_each_start() -> None:
    found: list[str] = []
    sink = logger.add(lambda message: found.append(str(message)), level="WARNING", format="{message}")
    environ = {"FLOWHERD_HOME": "/nowhere", "PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "1"}
    pool = {"prefect3.pool": "herd", "prefect3.api": "https://me:pw-1@api.example/api"}
    open_backend(load_settings(pool, environ=environ)).close()
    open_backend(load_settings({**pool, "prefect3.api": "http://api.example/api"}, environ=environ)).close()
    logger.remove(sink)
    (warning,) = found
    assert "https://***@api.example/api is not verified" in warning
    assert "variable PREFECT_API_TLS_INSECURE_SKIP_VERIFY" in warning


def test_prefects_address_of_a_server_is_the_api_unless_the_embedded_server_is_to_be_there(target: int) -> None:
    def loaded(port: int, bind_port: int) -> LoadedSettings:
        environ = {"PREFECT__SERVER__ENDPOINT": f"http://localhost:{port}", "FLOWHERD_HOME": "/nowhere"}
        return load_settings({"server.bind_port": bind_port}, environ=environ)

    assert not is_left_to_embedded_server(loaded(target, 4200))
    assert not is_left_to_embedded_server(loaded(target, target))  # something answers there
    assert is_left_to_embedded_server(loaded(9, 9))
    assert not is_left_to_embedded_server(loaded(9, 4200))
    found = find_api(loaded(target, 4200))
    assert found is not None and found.address == f"http://localhost:{target}"
