"""One real Prefect 3 server for all tests here; it takes long to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers.prefect3.prefect_server import PrefectServer, running_prefect
from tests.support.leftovers import none_left


@pytest.fixture(scope="package")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A server that all tests share; each has a work pool of its own."""
    with none_left(), running_prefect(tmp_path_factory.mktemp("prefect-3")) as server:
        yield server
