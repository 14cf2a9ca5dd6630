"""One real Prefect 3 server for the tests here that a worker process runs, and a backend at a pool of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from flowherd.backends.prefect3.backend import Prefect3Backend
from tests.peers.prefect3.pool_backend import IDENTITY, new_backend
from tests.peers.prefect3.prefect_server import PrefectServer, running_prefect
from tests.support.leftovers import none_left

_numbers = itertools.count()


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A server that the tests share; each uses a work pool of its own."""
    with none_left(), running_prefect(tmp_path_factory.mktemp("prefect-3")) as server:
        yield server


@pytest.fixture
def pool() -> str:
    """The name of a new pool."""
    return f"pool {next(_numbers)}"


@pytest.fixture
def backend(prefect: PrefectServer, pool: str) -> Iterator[Prefect3Backend]:
    backend = new_backend(prefect, pool)
    backend.connect()
    backend.register(IDENTITY)
    yield backend
    backend.close()


@pytest.fixture
def deployment(prefect: PrefectServer, pool: str, backend: Prefect3Backend) -> str:
    return prefect.add_deployment(pool)
