"""Which proxy an address is reached through, by the rules of the libraries that Prefect's clients are built with."""

from __future__ import annotations

import pytest

from flowherd.config.proxies import proxies_of

PROXY = "http://proxy:3128"


def proxy_for(address: str, **environ: str) -> str | None:
    proxy = proxies_of(environ).proxy_for(address)
    return None if proxy is None else proxy.url


@pytest.mark.parametrize(
    ("environ", "http", "https"),
    [
        ({}, None, None),
        ({"HTTP_PROXY": PROXY}, PROXY, None),
        ({"https_proxy": "proxy:3128"}, None, PROXY),
        ({"ALL_PROXY": PROXY}, PROXY, PROXY),
        ({"ALL_PROXY": "http://other:1", "HTTPS_PROXY": PROXY}, "http://other:1", PROXY),
        ({"HTTP_PROXY": "http://other:1", "http_proxy": PROXY}, PROXY, None),
        ({"HTTP_PROXY": PROXY, "http_proxy": ""}, None, None),
        ({"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}, None, None),
    ],
)
def test_the_variable_of_the_scheme_counts(environ: dict[str, str], http: str | None, https: str | None) -> None:
    assert (proxy_for("http://api:4200/x", **environ), proxy_for("https://api/x", **environ)) == (http, https)


@pytest.mark.parametrize(
    ("exceptions", "address", "direct"),
    [
        ("*", "http://api:4200", True),
        ("api", "http://api:4200", True),
        ("API", "http://api:4200", True),
        ("api:4200", "http://api:4200", True),
        ("api:80", "http://api:4200", False),
        ("api:80", "http://api", True),
        ("firm.example", "http://api.firm.example", True),
        (".firm.example", "http://api.firm.example", True),
        ("*.firm.example", "http://api.firm.example", True),
        ("firm.example:443", "https://api.firm.example", True),
        ("firm.example", "http://otherfirm.example", False),
        ("10.0.0.0/8", "http://10.1.2.3:4200", True),
        ("10.0.0.0/8", "http://11.1.2.3:4200", False),
        ("0.0.1", "http://127.0.0.1", False),
        ("::1", "http://[::1]:4200", True),
        ("[::1]:4200", "http://[::1]:4200", True),
        ("fd00::/8", "http://[fd00::7]", True),
        ("other, , api ", "http://api", True),
        ("", "http://api", False),
    ],
)
def test_an_exception_covers_a_host(exceptions: str, address: str, direct: bool) -> None:
    found = proxies_of({"HTTP_PROXY": PROXY, "HTTPS_PROXY": PROXY, "NO_PROXY": exceptions})
    assert (found.proxy_for(address) is None) is direct
    assert found.proxy_of_scheme(address) is not None
