"""When the courier asks the backend which runs are to end."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from flowherd.host.delivery.upkeep import Upkeep
from flowherd.host.run import Run
from flowherd.host.run_registry import RunRegistry
from flowherd.host.store.run_directory import RunDirectory
from flowherd_runner.contract.spec import RunSpec

INTERVAL_S = 5.0


class Peer:
    """A connection whose backend has nothing to end."""

    def __init__(self) -> None:
        self.requests = self
        self.asked: list[set[str]] = []

    def stored_states(self, flow_run_ids: Collection[str]) -> dict[str, Any]:
        self.asked.append({*flow_run_ids})
        return {}


def run_of(tmp_path: Path, age_s: float) -> Run:
    run_id = str(uuid.uuid4())
    run = Run(RunDirectory(tmp_path, run_id), RunSpec(run_id), lambda: None)
    run.deployed_at = datetime.now(timezone.utc) - timedelta(seconds=age_s)
    return run


def upkeep_of(peer: Peer, *runs: Run) -> Upkeep:
    registry = RunRegistry()
    for run in runs:
        registry.add(run)
    intervals: dict[str, float] = {"heartbeat_interval_s": 30.0, "cancellation_interval_s": INTERVAL_S, "linger_s": 1}
    return Upkeep(registry, peer, **intervals)  # type: ignore[arg-type]


def test_the_start_of_a_run_is_no_reason_to_ask_but_news_is(tmp_path: Path) -> None:
    peer, young = Peer(), run_of(tmp_path, age_s=0)
    upkeep = upkeep_of(peer, young)
    upkeep.check_cancellations()
    assert peer.asked == []
    upkeep.look_for_cancellations()
    upkeep.check_cancellations()
    upkeep.check_cancellations()
    assert peer.asked == [{young.id}]


@pytest.mark.parametrize("age_s", [INTERVAL_S + 1, -3600])  # or the clock was set back
def test_all_runs_are_asked_for_once_an_interval_if_one_lasts_longer(tmp_path: Path, age_s: float) -> None:
    peer, runs = Peer(), [run_of(tmp_path, age_s), run_of(tmp_path, 0)]
    upkeep = upkeep_of(peer, *runs)
    upkeep.check_cancellations()
    upkeep.check_cancellations()
    assert peer.asked == [{run.id for run in runs}]
