"""What the end of a run carries: events, curve, leftovers, over a change of agents too; no more of a quick success."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flowherd import LocalAgent
from flowherd.backends.memory import MemoryBackend
from flowherd.config import load_settings
from flowherd.host.end_account import with_account
from flowherd.host.run import Run
from flowherd.host.store.run_directory import RunDirectory
from flowherd.host.verdict import of_exit_record
from flowherd.states import RunState
from flowherd.story.account import Account, read_account
from flowherd_runner.contract.spec import RunSpec
from tests.support.agents import going, wait_for_end
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")

LIMIT = 120 << 20
#: Grows to 94 % of the limit by its own account, says so by a file, and beyond the limit once another file is there.
GROW = """
import pathlib, sys, time
place, limit = pathlib.Path(sys.argv[1]), int(sys.argv[2])
def used():
    rows = pathlib.Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("Pss:")) * 1024
kept = []
while used() < 0.94 * limit:
    kept.append(bytearray(1 << 20))
(place / "near").touch()
while not (place / "go").exists():
    time.sleep(0.02)
while True:
    kept.append(bytearray(1 << 20))
    time.sleep(0.002)
"""


@contextmanager
def agent_at(backend: MemoryBackend, state_dir: Path) -> Iterator[LocalAgent]:
    settings = load_settings({"agent.state_dir": str(state_dir), "agent.watch_interval": 0.05, "runs.keep": 3600})
    agent = LocalAgent(backend=backend, hostname_label=False, settings=settings)
    with going(agent):
        yield agent


def add(backend: MemoryBackend, *argv: str, **config: object) -> str:
    return backend.add_run({"type": "Command", "argv": list(argv)}, run_config={"grace_s": 0.3, **config})


def sent(backend: MemoryBackend, run_id: str) -> Account | None:
    """The account in the last report of a run."""
    wait_for_end(backend, run_id)
    return read_account([report for report in backend.history if report.flow_run_id == run_id][-1].account)


def whats(account: Account | None) -> list[str]:
    return [] if account is None else [event.what for event in account.events]


def test_how_a_run_ended_is_sent_with_dated_events(tmp_path: Path) -> None:
    backend = MemoryBackend()
    with agent_at(backend, tmp_path / "state"):
        failed = add(backend, "sh", "-c", "setsid sleep 100 & exit 3", weights={"nice": 19})
        quick = add(backend, "true")
        stubborn = add(backend, "sh", "-c", f"trap '' TERM; touch {tmp_path}/up; while :; do sleep 0.05; done")
        late = add(backend, "sleep", "100", limits={"run_time_s": 0.2})
        wait_until((tmp_path / "up").exists)
        wait_until(lambda: backend.state(stubborn) is RunState.RUNNING)
        backend.cancel(stubborn)
        found = sent(backend, failed)
        assert found is not None
        assert (found.exit_code, found.leftovers_count) == (3, 1) and found.leftovers[0].startswith("sleep (")
        assert found.evidence == "wait status: exited with code 3"
        assert whats(found) == ["started", "process ended"]
        assert found.events[0].detail.endswith(", nice 19")
        assert "flow process" in found.events[0].detail
        assert sent(backend, quick) is None
        killed = sent(backend, stubborn)
        assert killed is not None and killed.signal == 9
        assert whats(killed) == ["started", "asked to end", "killed", "process ended"]
        assert killed.events[1].detail.startswith("cancelled: ")
        assert killed.events[2].at_s - killed.events[1].at_s >= 0.29
        assert [event.at_s for event in killed.events] == sorted(event.at_s for event in killed.events)
        timed_out = sent(backend, late)
        assert whats(timed_out) == ["started", "asked to end", "process ended"]
        assert timed_out is not None and timed_out.events[1].detail == (
            "timeout: the run had not ended after its limit of 0.2 s"
        )


def test_what_happened_before_a_change_of_agents_is_kept(tmp_path: Path) -> None:
    backend, state = MemoryBackend(), tmp_path / "state"
    with agent_at(backend, state):
        run_id = add(backend, sys.executable, "-c", GROW, str(tmp_path), str(LIMIT), limits={"memory_bytes": LIMIT})
        wait_until((tmp_path / "near").exists)
        wait_until(lambda: any("above 90 % of its limit" in line for line in backend.log(run_id)))
    kept = read_account(json.loads((state / "runs" / run_id / "account.json").read_text()))
    assert whats(kept) == ["near its limit"]
    with agent_at(backend, state):
        (tmp_path / "go").touch()
        found = sent(backend, run_id)
        assert sum("above 90 %" in line for line in backend.log(run_id)) == 1
    assert whats(found) == ["started", "near its limit", "adopted", "asked to end", "killed", "process ended"]
    assert found is not None and kept is not None
    assert found.samples[: len(kept.samples)] == kept.samples
    assert len(found.samples) > len(kept.samples) > 0
    assert found.memory_limit_bytes == LIMIT and (found.peak_memory_bytes or 0) > LIMIT
    assert [process.command.split()[0] for process in found.processes] == [sys.executable]
    assert (found.processes[0].memory_bytes or 0) > 0.9 * LIMIT and found.processes_at_s is not None
    # The directory has all of it too, for the agent's own page and for explain.
    assert read_account(json.loads((state / "runs" / run_id / "account.json").read_text())) == found


def test_a_damaged_history_costs_only_what_it_said(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path, "211f04ad-22d0-4ec2-a018-12f0f1e7774c")
    record = {"reason": "signal", "grade": "proven", "signal": 9, "evidence": "killed", "ended_at": "yesterday",
              "leftovers": [1, {"name": "x", "pid": 2}], "killed_at": "x", "cpu_time_s": float("nan")}  # fmt: skip
    for content in ("", "{", "[]", '{"contract": 1, "events": [[1, 2]], "samples": 5}', '{"contract": 99}'):
        (tmp_path / "account.json").write_text(content)
        run = Run(directory, RunSpec(directory.flow_run_id), lambda: None)
        run.history.adopt()
        decided = with_account(run, of_exit_record(record), record, None, [])
        assert decided.account == {"evidence": "killed", "signal": 9, "leftovers": ["x (2)"], "leftovers_count": 1}
        assert decided.state is RunState.FAILED
