"""A Prefect 3 server that requires a name and a password, and a CSRF token with every change."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flowherd.backends.prefect3.backend import Prefect3Backend
from flowherd.backends.prefect3.pool import WorkPool
from flowherd.backends.prefect3.transport import Prefect3Transport
from flowherd.errors import BackendUnavailable, NotAuthorized
from flowherd.values import AgentIdentity
from tests.peers.prefect3.prefect_server import PrefectServer, running_prefect
from tests.support.leftovers import none_left

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    variables = {"PREFECT_SERVER_API_AUTH_STRING": "admin:pass", "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true"}
    with none_left(), running_prefect(tmp_path_factory.mktemp("guarded"), variables) as server:
        yield server


def backend_with(server: PrefectServer, auth_string: str) -> Prefect3Backend:
    transport = Prefect3Transport(server.api, auth_string=auth_string, timeout_s=20)
    return Prefect3Backend(transport, WorkPool(transport, "guarded"))


def test_with_the_right_ones_everything_works(guarded: PrefectServer) -> None:
    backend = backend_with(guarded, "admin:pass")
    backend.check_token()
    backend.connect()
    backend.register(AgentIdentity(type="Test", name="tester", labels=()))
    assert backend.ready_runs([], ()) == []
    assert backend.wait_for_wake(0, 5.0).sequence == 1
    backend.close()


@pytest.mark.parametrize("auth_string", ["", "admin:wrong"])
def test_with_wrong_ones_it_says_so(guarded: PrefectServer, auth_string: str) -> None:
    backend = backend_with(guarded, auth_string)
    for call in (backend.connect, backend.check_token, lambda: backend.ready_runs([], ())):
        with pytest.raises(NotAuthorized):
            call()
    with pytest.raises((NotAuthorized, BackendUnavailable)):
        backend.wait_for_wake(0, 1.0)
    backend.close()
