"""The directory of a run whose log is nowhere else is kept, so that `flowherd logs` has it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowherd.host.retention import Retention
from flowherd.host.store.outbox import Outbox
from flowherd.host.store.run_directory import RunDirectory
from flowherd.host.store.state_directory import StateDirectory
from flowherd.states import RunState
from flowherd_runner.contract.spec import AgentKeys, RunSpec


@pytest.fixture
def state(clean_environment: Path) -> Iterator[StateDirectory]:
    opened = StateDirectory(clean_environment / "agents" / "agent")
    yield opened
    opened.close()


def ended_run(state: StateDirectory, *, sent_log: bool) -> RunDirectory:
    run_id = str(uuid.uuid4())
    found = state.run_directory(run_id)
    os.close(found.create(RunSpec(flow_run_id=run_id, kind="command", agent=AgentKeys(send_logs=sent_log))))
    found.write_outbox(Outbox(final=True, state=RunState.SUCCESS))
    return found


def test_only_runs_whose_log_was_sent_are_removed_at_once(state: StateDirectory) -> None:
    retention = Retention(state, 0.0, lambda run_id: False, keep_unsent_s=100.0)
    sent, unsent = ended_run(state, sent_log=True), ended_run(state, sent_log=False)
    retention.sweep()
    assert (sent.path.exists(), unsent.path.exists()) == (False, True)
    sent = ended_run(state, sent_log=True)
    retention.delivered(sent, sent_log=True)
    retention.delivered(unsent, sent_log=False)
    assert (sent.path.exists(), unsent.path.exists()) == (False, True)


def test_a_chosen_time_counts_for_all(state: StateDirectory) -> None:
    retention = Retention(state, 0.0, lambda run_id: False)
    unsent = ended_run(state, sent_log=False)
    retention.sweep()
    assert not unsent.path.exists()


def test_what_an_ended_run_had_in_a_tmp_of_its_own_is_not_kept(state: StateDirectory) -> None:
    kept = ended_run(state, sent_log=True)
    (kept.path / "private" / "tmp" / "deep").mkdir(parents=True)
    retention = Retention(state, 100.0, lambda run_id: run_id == kept.flow_run_id)
    retention.sweep()
    assert (kept.path / "private").exists(), "this agent has the run, and removes it at its end"
    Retention(state, 100.0, lambda run_id: False).sweep()
    assert sorted(kept.path.iterdir()) and not (kept.path / "private").exists()
