"""Which addresses the server may listen on without a token."""

from __future__ import annotations

import pytest

from flowherd.errors import ConfigurationError
from flowherd_server.web.guard import check_binding


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_needs_no_token(host: str) -> None:
    check_binding(host, "")


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "192.0.2.1", "herd.example", "localhost.example", "127.0.0.1.example"]
)
def test_an_address_that_other_hosts_can_reach_needs_a_token(host: str) -> None:
    with pytest.raises(ConfigurationError, match="FLOWHERD__SERVER__TOKEN"):
        check_binding(host, "")
    check_binding(host, "token")
