"""What runs owe the backend at their end goes in one request, and is found again by an agent that has not sent it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from flowherd import LocalAgent
from flowherd.backends.memory import MemoryBackend
from flowherd.backends.protocol import ServerCapabilities
from flowherd.errors import BackendRefused, BackendUnavailable
from flowherd.states import FINISHED, RunState
from flowherd.values import LogLine, StateReport
from tests.support.agents import going, wait_for_end
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")

LINES = {"type": "Command", "argv": ["seq", "3"]}


class Delivering(MemoryBackend):
    """Takes lines and states together, all or none; records the states of each request."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[list[RunState]] = []
        self.deleted: set[str] = set()
        self.away = False

    def connect(self) -> ServerCapabilities:
        return ServerCapabilities(name="memory", arbitrates=True, wakes=True, delivers_together=True)

    def write_logs(self, lines: Sequence[LogLine]) -> None:
        self._refuse_deleted(line.flow_run_id for line in lines)
        super().write_logs(lines)

    def report(self, report: StateReport) -> None:
        self._refuse_deleted([report.flow_run_id])
        super().report(report)

    def deliver(self, lines: Sequence[LogLine], reports: Sequence[StateReport]) -> None:
        self._refuse_deleted(one.flow_run_id for one in (*lines, *reports))
        self.requests.append([one.state for one in reports])
        self.write_logs(lines)
        for report in reports:
            if report.state in FINISHED:  # the whole log is there before the end
                assert self.log(report.flow_run_id)[-1].startswith(f"{report.state}: "), self.log(report.flow_run_id)
            super().report(report)

    def _refuse_deleted(self, run_ids: object) -> None:
        if self.away:
            raise BackendUnavailable("away", retry_after_s=0.2)  # so that an agent that stops does not wait for it
        if not self.deleted.isdisjoint(run_ids):  # type: ignore[arg-type]
            raise BackendRefused("a run was deleted")


def agent(backend: MemoryBackend) -> LocalAgent:
    return LocalAgent(backend=backend, hostname_label=False)


def test_the_last_lines_and_the_end_of_a_run_are_one_request_and_a_refused_run_holds_up_no_other(
    clean_environment: Path,
) -> None:
    backend = Delivering()
    with going(agent(backend)):
        first = backend.add_run(LINES)
        assert wait_for_end(backend, first) is RunState.SUCCESS
        assert [line for line in backend.log(first) if line.isdigit()] == ["1", "2", "3"]
        assert sorted(state for request in backend.requests for state in request) == ["Running", "Success"]

        lost, kept = backend.add_run(LINES), backend.add_run(LINES)
        wait_until(lambda: backend.state(lost) is not RunState.SCHEDULED)
        backend.deleted.add(lost)
        assert wait_for_end(backend, kept) is RunState.SUCCESS
        wait_until(lambda: not list((clean_environment / "agents" / "agent" / "runs").iterdir()))


def test_an_end_that_only_the_runner_has_written_down_is_reported_once_by_the_next_agent(
    clean_environment: Path, tmp_path: Path
) -> None:
    backend = Delivering()
    waiting = f"until [ -e {tmp_path}/go ]; do sleep 0.02; done; echo done"
    with going(agent(backend)):
        run_id = backend.add_run({"type": "Command", "argv": ["sh", "-c", waiting]})
        wait_until(lambda: backend.state(run_id) is RunState.RUNNING)
        backend.away = True
        (tmp_path / "go").touch()
        directory = clean_environment / "agents" / "agent" / "runs" / run_id
        wait_until(lambda: b"Success: " in (directory / "journal").read_bytes())
    assert (directory / "exit.json").exists()
    assert b"Success" not in (directory / "outbox").read_bytes()  # that Running is known is in there
    backend.away = False
    with going(agent(backend)):
        assert wait_for_end(backend, run_id) is RunState.SUCCESS
    states = [report.state for report in backend.history if report.flow_run_id == run_id]
    assert states == [RunState.RUNNING, RunState.SUCCESS]
    assert sum("Success: " in line for line in backend.log(run_id)) == 1
