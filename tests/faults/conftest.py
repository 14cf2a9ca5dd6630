"""One cluster for the tests of a module and backend: its server and agent are started again after every death."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.backends import BackendUnderTest
from tests.faults.backends.embedded import Embedded
from tests.faults.backends.prefect3 import Prefect3
from tests.faults.cluster import Cluster, running_cluster
from tests.support.leftovers import carriers
from tests.support.waiting import wait_until

BACKENDS: dict[str, type[BackendUnderTest]] = {"embedded": Embedded, "prefect3": Prefect3}


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Server, agent and network of the backend that the parameter names; at the end they stop and none is left."""
    backend = BACKENDS[request.param]
    with running_cluster(tmp_path_factory.mktemp("faults") / "cluster", seed=0, backend=backend) as cluster:
        yield cluster
        assert cluster.stop() == []
        wait_until(lambda: not carriers(cluster.mark), timeout_s=10, what=lambda: f"left: {carriers(cluster.mark)}")
        assert [program.surprises for program in (cluster.server, *cluster.agents)] == [[], []]
