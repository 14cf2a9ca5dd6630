"""A fleet on PostgreSQL: agents are killed, come back and are drained, and each run happens exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.postgres import Postgres, running_postgres
from tests.peers.prefect3.fleet import Account, Fleet, running_fleet
from tests.peers.prefect3.prefect_server import PrefectServer, running_prefect
from tests.peers.prefect3.warm_fork import running_warm_fork
from tests.support.leftovers import none_left
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_ENGINE_RUNS, _PATIENT_RUNS = 9, 6
_DEADLINE_S = 240.0


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """Around everything else, so the check for processes covers restarted agents, runs and servers too."""
    with none_left(), running_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    variables = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": postgres.url}
    with running_prefect(tmp_path_factory.mktemp("prefect-fleet"), variables) as prefect:
        yield prefect


@pytest.fixture
def fleet(server: PrefectServer, tmp_path: Path) -> Iterator[Fleet]:
    with running_fleet(server, tmp_path) as fleet:
        yield fleet


@pytest.mark.parametrize("runs", [30, pytest.param(300, marks=pytest.mark.full)])
def test_runs_on_three_agents_happen_once_each_though_one_is_killed_and_another_drained(
    fleet: Fleet, runs: int
) -> None:
    patient = fleet.create(_PATIENT_RUNS, engine=False, patient=True)
    wait_until(lambda: len(fleet.starts()) == len(patient), timeout_s=_DEADLINE_S, what=fleet.story)
    fleet.create(_ENGINE_RUNS, engine=True)
    fleet.create(runs - _ENGINE_RUNS - _PATIENT_RUNS, engine=False)
    victim, other, third = sorted(fleet.hosts, key=lambda host: -len(set(host.going()) & set(patient)))
    wait_until(lambda: len(fleet.starts()) >= runs // 4, timeout_s=_DEADLINE_S, what=fleet.story)

    victim.kill()
    left = set(victim.going()) & set(patient)
    assert left, "no run goes on"
    other.drain()
    started = len(fleet.starts())
    victim.start()
    fleet.release_patient()
    assert other.exit_code(_DEADLINE_S) == 0
    assert not other.directories()
    fleet.wait_for_ends(_DEADLINE_S)

    account = fleet.account()
    assert_each_once(account)
    assert account.runs == runs
    assert set(account.spread) == {host.name for host in fleet.hosts}
    assert {agent for _, agent, _ in fleet.starts()[started:]} >= {victim.name, third.name}


def test_a_restart_of_database_and_server_in_the_middle_loses_and_doubles_nothing(
    fleet: Fleet, postgres: Postgres, server: PrefectServer, tmp_path: Path
) -> None:
    """Nor fails a claimed run that begins meanwhile: Prefect's client gives up at a process's first refused request."""
    with running_warm_fork(server, tmp_path) as fork:
        late = fork.prepare("speaking")
        fleet.create(18, engine=False, seconds=1.0)
        wait_until(lambda: len(fleet.starts()) >= 6, timeout_s=_DEADLINE_S, what=fleet.story)
        postgres.stop()
        server.stop()
        fork.fork_server.start(late.process)
        wait_until(lambda: late.process.started, what=late.process.describe)
        postgres.start()
        server.start()
        fleet.wait_for_ends(_DEADLINE_S)
        assert late.end()["exit_code"] == 0, late.process.describe()
        assert late.states == ["Scheduled", "Pending", "Running", "Completed"]
    assert_each_once(fleet.account())


def assert_each_once(account: Account) -> None:
    assert not account.lost and not account.doubled, account
    assert not account.irregular, account
    assert not account.lines_lost and not account.lines_doubled, account
