"""A fleet on PostgreSQL: agents are killed, come back and are drained, and each run happens exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers3.environment import PrefectServer, running_prefect
from tests.peers3.fleet import Account, Fleet, running_fleet
from tests.peers3.postgres import Postgres, running_postgres
from tests.support.leftovers import none_left
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

_RUNS, _ENGINE_RUNS, _PATIENT_RUNS = 300, 24, 6
_DEADLINE_S = 240.0


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with none_left(), running_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    variables = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": postgres.url}
    with running_prefect(tmp_path_factory.mktemp("prefect-fleet"), **variables) as prefect:
        yield prefect


@pytest.fixture
def fleet(server: PrefectServer, tmp_path: Path) -> Iterator[Fleet]:
    with none_left(), running_fleet(server, tmp_path) as fleet:
        yield fleet


def test_300_runs_on_three_agents_happen_once_each_though_one_is_killed_and_another_drained(fleet: Fleet) -> None:
    patient = fleet.ask_for(_PATIENT_RUNS, engine=False, patient=True)
    wait_until(lambda: len(fleet.starts()) == len(patient), timeout_s=_DEADLINE_S, what=fleet.story)
    fleet.ask_for(_ENGINE_RUNS, engine=True)
    fleet.ask_for(_RUNS - _ENGINE_RUNS - _PATIENT_RUNS, engine=False)
    victim, other, third = sorted(fleet.hosts, key=lambda host: -len(set(host.going()) & set(patient)))
    wait_until(lambda: len(fleet.starts()) >= _RUNS // 4, timeout_s=_DEADLINE_S, what=fleet.story)

    victim.kill()
    left = set(victim.going()) & set(patient)
    assert left, "nothing went on"
    other.drain()
    started = len(fleet.starts())
    victim.start()
    fleet.let_go()
    assert other.exit_code(_DEADLINE_S) == 0
    assert not other.directories()
    fleet.wait_for_ends(_DEADLINE_S)

    account = fleet.account()
    assert_each_once(account)
    assert account.runs == _RUNS
    assert set(account.spread) == {host.name for host in fleet.hosts}
    assert {agent for _, agent, _ in fleet.starts()[started:]} >= {victim.name, third.name}


def assert_each_once(account: Account) -> None:
    assert not account.lost and not account.doubled, account
    assert not account.irregular, account
    assert not account.lines_lost and not account.lines_doubled, account
