"""A Prefect 3 server behind what firms put in front of it: requests and events reach it, as Prefect's client does."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flowherd.backends.prefect3.backend import Prefect3Backend
from flowherd.backends.registry import open_backend
from flowherd.config import load_settings
from flowherd.errors import BackendUnavailable, ConfigurationError, GatewayRefused
from tests.peers.environments import PREFECT_3, required_installation
from tests.peers.prefect3.prefect_server import PrefectServer
from tests.support.certificates import Certificates, make_certificates
from tests.support.gates import Gate, standing

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def reaches(api: str, environ: Mapping[str, str] | None = None, **own: Any) -> dict[str, str]:
    """Connect as an agent does and listen to events; return the variables for the engine of a run."""
    overrides = {"prefect3.pool": "behind a gate", "prefect3.api": api}
    overrides |= {f"prefect3.{name}": value for name, value in own.items()}
    backend = open_backend(load_settings(overrides, environ={"FLOWHERD_HOME": "/nowhere", **(environ or {})}))
    assert isinstance(backend, Prefect3Backend)
    try:
        assert "3.8.5" in backend.connect().name
        assert backend.wait_for_wake(0, 5.0).sequence == 1
        return dict(backend.engine_variables())
    finally:
        backend.close()


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "PREFECT_API_SSL_CERT_FILE"])
def test_requests_and_events_come_through_where_the_authority_is_named(
    prefect: PrefectServer, certificates: Certificates, variable: str
) -> None:
    with standing(Gate(prefect.port, certificates=certificates)) as gate:
        api = f"https://localhost:{gate.port}/api"
        variables = reaches(api, {variable: str(certificates.authority)})
    assert variables["PREFECT_API_SSL_CERT_FILE"] == str(certificates.authority)


def test_a_server_of_an_unknown_authority_is_refused_and_an_unverified_one_is_not(
    prefect: PrefectServer, certificates: Certificates
) -> None:
    with standing(Gate(prefect.port, certificates=certificates)) as gate:
        api = f"https://127.0.0.1:{gate.port}/api"
        with pytest.raises(BackendUnavailable, match="certificate"):
            reaches(api)
        variables = reaches(api, {"PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "true"})
    assert variables["PREFECT_API_TLS_INSECURE_SKIP_VERIFY"] == "true"


def test_a_client_certificate_is_shown_to_requests_and_events(
    prefect: PrefectServer, certificates: Certificates
) -> None:
    with standing(Gate(prefect.port, certificates=certificates, asks_client=True)) as gate:
        api, trusted = f"https://localhost:{gate.port}/api", {"SSL_CERT_FILE": str(certificates.authority)}
        with pytest.raises(BackendUnavailable):
            reaches(api, trusted)
        reaches(api, trusted, client_cert=str(certificates.client))


def test_a_file_of_certificates_that_is_not_there_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"prefect3\.ssl_cert_file, from variable SSL_CERT_FILE: there is no"):
        reaches("https://127.0.0.1/api", {"SSL_CERT_FILE": str(tmp_path / "none.pem")})


def test_headers_and_a_path_before_the_api_are_those_of_requests_and_events(prefect: PrefectServer) -> None:
    with standing(Gate(prefect.port, prefix="/firm", needs={"X-Gate-Key": "let-me-in"})) as gate:
        api, headers = f"http://127.0.0.1:{gate.port}/firm/api", '{"X-Gate-Key": "let-me-in"}'
        with pytest.raises(GatewayRefused, match="403"):
            reaches(api)
        variables = reaches(api, {"PREFECT_CLIENT_CUSTOM_HEADERS": headers})
        assert any(line.startswith("GET /firm/api/events/out") for line in gate.seen)
        # With these variables Prefect's own client comes through as well, and without them not.
        asked = "from prefect.client.orchestration import get_client; print(get_client(sync_client=True).hello())"
        done = subprocess.run(
            [required_installation(PREFECT_3).python, "-c", asked],
            env={**prefect.environ(), **variables, "PREFECT_API_URL": api},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert "200" in done.stdout, done.stderr


def test_an_ipv6_address_is_reached(prefect: PrefectServer) -> None:
    with standing(Gate(prefect.port, host="::1")) as gate:
        reaches(f"http://[::1]:{gate.port}/api")


def test_a_proxy_carries_requests_and_events_and_its_exceptions_are_direct(prefect: PrefectServer) -> None:
    with standing(Gate(prefect.port)) as proxy:
        environ = {"HTTP_PROXY": f"http://127.0.0.1:{proxy.port}"}
        reaches("http://prefect.firm.example:4200/api", environ)
        assert any(line.startswith("CONNECT prefect.firm.example:4200") for line in proxy.seen)
    dead = {"HTTP_PROXY": "http://127.0.0.1:9"}
    with pytest.raises(BackendUnavailable, match="through the proxy"):
        reaches(prefect.api, dead)
    reaches(prefect.api, {**dead, "NO_PROXY": "127.0.0.1"})


def test_tls_goes_through_a_proxy_as_a_tunnel(prefect: PrefectServer, certificates: Certificates) -> None:
    with standing(Gate(prefect.port, certificates=certificates)) as gate, standing(Gate(gate.port)) as proxy:
        environ = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}", "SSL_CERT_FILE": str(certificates.authority)}
        reaches(f"https://localhost:{gate.port}/api", environ)
        assert {line.split(" ")[0] for line in proxy.seen} == {"CONNECT"}
