"""One server that tests share, and a client for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.dialect import Client
from tests.support.leftovers import none_left
from tests.support.server import ServerProcess, running_server


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with none_left(), running_server(tmp_path_factory.mktemp("shared") / "data", schedule_ahead=4) as server:
        yield server


@pytest.fixture(scope="session")
def closed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that requires a token and listens on all addresses."""
    with none_left(), running_server(tmp_path_factory.mktemp("closed") / "data", "s3cret", bind="0.0.0.0") as server:
        yield server


@pytest.fixture
def client(shared_server: ServerProcess) -> Client:
    """Return a client of the shared server, on which names and labels must be unique to a test."""
    return Client(shared_server)
