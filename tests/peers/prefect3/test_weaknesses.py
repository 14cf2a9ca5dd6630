"""Where Prefect's process worker loses a run, a process or a cause, and flowherd does not: each shown by a run.

What the worker does is shown beside it where a few seconds do; the rest when FLOWHERD_ALL_SCENARIOS is 1.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.faults.proxy import Proxy
from tests.peers.prefect3.prefect_server import PrefectServer
from tests.peers.prefect3.workspace import ALL, OURS, RUN_S, THEIRS, Handle, Place, Taker, flowherd, real_worker
from tests.support.leftovers import none_left
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

_FLOWS = ("chattering", "silent", "leaving", "deaf", "segfaulting", "speaking_plainly", "filling", "asking")
#: What the worker does where it takes long to see is seen when all is asked for.
_WHO_IF_LONG = (OURS, THEIRS) if ALL else (OURS,)
_numbers = itertools.count(1)


class Weak:
    """The deployments, and those who take their runs."""

    def __init__(self, place: Place, deployments: dict[str, str]) -> None:
        self._place = place
        self._deployments = deployments

    @property
    def prefect(self) -> PrefectServer:
        return self._place.prefect

    @contextmanager
    def taker(self, who: str, api: str = "", **more: str) -> Iterator[Taker]:
        start = real_worker if who == THEIRS else flowherd
        with start(self._place, api, **more) as taker:
            yield taker

    def run(self, taker: Taker, flow: str, **parameters: Any) -> Handle:
        deployment = self._deployments[f"{taker.who} {flow}"]
        run_id = self.prefect.add_run(deployment, parameters=parameters, name=f"{flow} {next(_numbers)}")
        return Handle(self.prefect, taker, run_id)

    def lines(self, run: Handle) -> list[tuple[str, str]]:
        return [(row["name"], row["message"]) for row in self.prefect.log(run.run_id)]


@pytest.fixture(scope="module")
def weak(prefect: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weak]:
    place = Place(tmp_path_factory.mktemp("weak"), prefect, pools=("their-weak", "our-weak"))
    place.prepare("weak")
    pool = {"name": place.pool(THEIRS)}
    deployments = [{"name": f"{THEIRS} {flow}", "entrypoint": f"weak.py:{flow}", "work_pool": pool} for flow in _FLOWS]
    yield Weak(place, place.deploy(deployments))


@pytest.fixture(scope="module")
def takers(weak: Weak) -> Iterator[dict[str, Taker]]:
    """Both, for tests that leave them alive."""
    limits = {"FLOWHERD__AGENT__GRACE": "1.5", "FLOWHERD__RUNS__LIMITS__MEMORY_BYTES": str(400 << 20)}
    with none_left(), ExitStack() as stack:
        theirs = stack.enter_context(weak.taker(THEIRS))
        yield {THEIRS: theirs, OURS: stack.enter_context(weak.taker(OURS, **limits))}


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# -- whoever takes the runs dies; these come first, before others take runs of the same pools


@pytest.mark.parametrize("who", [THEIRS, OURS])
def test_a_run_that_prints_goes_on_when_its_agent_is_killed_and_ends_as_it_would_have(
    weak: Weak, tmp_path: Path, who: str
) -> None:
    """The worker's run prints into a pipe to it, and dies of that."""
    file = tmp_path / "there"
    with none_left(), weak.taker(who) as first:
        run = weak.run(first, "chattering", file=str(file))
        run.wait_for_line("still here")
        first.process.kill()
        first.process.wait()
        if who == THEIRS:
            run.wait_for_state("CRASHED")
            return
        with weak.taker(who):
            file.touch()
            run.wait_for_state("COMPLETED")
            run.wait_for_line("it is there")


@pytest.mark.parametrize("who", _WHO_IF_LONG)
def test_a_run_that_died_while_its_agent_was_dead_is_told_by_the_next_one(weak: Weak, tmp_path: Path, who: str) -> None:
    """The worker's stays Running: one that is there again, and completes another run, looks after nothing."""
    with none_left():
        with weak.taker(who) as first:
            run = weak.run(first, "silent", file=str(tmp_path / "never"))
            run.wait_for_line("waiting")
            pid = weak.prefect.pid(run.run_id)
            first.process.kill()
            first.process.wait()
        os.kill(pid, signal.SIGKILL)
        with weak.taker(who) as second:
            other = weak.run(second, "speaking_plainly")
            other.wait_for_end()
            if who == THEIRS:
                assert weak.prefect.state(run.run_id) == "RUNNING"
                return
            run.wait_for_state("CRASHED")
            assert "SIGKILL" in weak.prefect.run(run.run_id)["state"]["message"]


@pytest.mark.parametrize("who", [THEIRS, OURS])
def test_a_run_outlives_the_ordinary_stop_of_its_agent(weak: Weak, tmp_path: Path, who: str) -> None:
    """The worker kills its runs at a SIGTERM, without grace, and leaves them Running at the server."""
    file = tmp_path / "there"
    with none_left():
        with weak.taker(who) as first:
            run = weak.run(first, "silent", file=str(file))
            run.wait_for_line("waiting")
            pid = weak.prefect.pid(run.run_id)
            first.process.terminate()
            first.process.wait(30)
            if who == THEIRS:
                wait_until(lambda: not _alive(pid), what=run.story)
                assert weak.prefect.state(run.run_id) == "RUNNING", run.story()
                return
            assert _alive(pid)
        with weak.taker(who):
            file.touch()
            run.wait_for_state("COMPLETED")
            run.wait_for_line("it is there")


@pytest.mark.parametrize("who", _WHO_IF_LONG)
def test_an_agent_that_inherited_an_ignored_interrupt_stops_at_a_termination(weak: Weak, who: str) -> None:
    """As a script's background job does. The worker makes a SIGINT of it, to itself, and takes further runs."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with none_left(), weak.taker(who) as taker:
            signal.signal(signal.SIGINT, before)
            taker.process.terminate()
            if who == OURS:
                assert taker.process.wait(30) == 0, taker.text()
                return
            other = weak.run(taker, "speaking_plainly")
            other.wait_for_state("COMPLETED")
            assert taker.process.poll() is None
            taker.process.kill()
            taker.process.wait()
    finally:
        signal.signal(signal.SIGINT, before)


class _Spoiling(Proxy):
    """Answers 500 to each request that tells a run's labels, and passes all others on."""

    async def _pass_on(
        self,
        request: bytes,
        reader: asyncio.StreamReader,
        answers: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
    ) -> bool:
        if b"/labels " not in request.partition(b"\r\n")[0]:
            return await super()._pass_on(request, reader, answers, upstream, writer)
        self.injected["labels"] += 1
        writer.write(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        return False


@pytest.mark.parametrize("who", [THEIRS, OURS])
def test_a_request_for_show_that_fails_fails_no_run(weak: Weak, who: str) -> None:
    """The worker makes a claimed run Crashed that could not be given its labels."""
    proxy = _Spoiling(lambda: weak.prefect.port, seed=5)
    try:
        with none_left(), weak.taker(who, api=f"http://127.0.0.1:{proxy.port}/api") as taker:
            run = weak.run(taker, "speaking_plainly")
            run.wait_for_state("COMPLETED" if who == OURS else "CRASHED")
            wait_until(lambda: proxy.injected["labels"], what=run.story)
    finally:
        proxy.close()


# -- causes and output


def test_a_segmentation_fault_is_told_by_its_name(weak: Weak, takers: dict[str, Taker]) -> None:
    runs = {who: weak.run(taker, "segfaulting") for who, taker in takers.items()}
    messages = {}
    for who, run in runs.items():
        run.wait_for_end()
        state = weak.prefect.run(run.run_id)["state"]
        assert state["type"] == "CRASHED", run.story()
        messages[who] = state["message"]
    assert "-11" in messages[THEIRS] and "SIGSEGV" not in messages[THEIRS], messages
    assert "SIGSEGV" in messages[OURS], messages
    assert any(message == "last words" for _, message in weak.lines(runs[OURS])), runs[OURS].story()


def test_raw_output_and_that_of_programs_is_in_the_runs_log(weak: Weak, takers: dict[str, Taker]) -> None:
    raw = {"written", "of the descriptor", "of a program"}
    runs = {who: weak.run(taker, "speaking_plainly") for who, taker in takers.items()}
    for run in runs.values():
        run.wait_for_end()
    assert raw & {message for _, message in weak.lines(runs[THEIRS])} == set()
    found = {message: logger for logger, message in weak.lines(runs[OURS]) if message in raw}
    assert found == {
        "written": "flowherd.stdout",
        "of the descriptor": "flowherd.stderr",
        "of a program": "flowherd.stdout",
    }


def test_a_flow_that_reads_its_input_finds_its_end(weak: Weak, takers: dict[str, Taker]) -> None:
    """The worker's runs have a pipe there that it never closes; a flow that reads it waits for ever."""
    runs = {who: weak.run(taker, "asking") for who, taker in takers.items()}
    for run in runs.values():
        run.wait_for_end()
    said = {who: [message for _, message in weak.lines(run)] for who, run in runs.items()}
    assert "input is pipe" in said[THEIRS], said
    assert "nobody answers" in said[OURS], said


def test_a_run_that_takes_more_memory_than_allowed_is_ended_with_that_cause(
    weak: Weak, takers: dict[str, Taker]
) -> None:
    """The worker has no limit to set."""
    run = weak.run(takers[OURS], "filling", mebibytes=600)
    run.wait_for_end()
    state = weak.prefect.run(run.run_id)["state"]
    assert state["type"] == "CRASHED" and "Memory limit exceeded" in state["message"], run.story()


# -- processes that stay


@pytest.mark.parametrize("waits", [False, True], ids=["after its end", "after a cancellation"])
def test_a_process_in_a_session_of_its_own_does_not_outlive_the_run(
    weak: Weak, takers: dict[str, Taker], tmp_path: Path, waits: bool
) -> None:
    files = {who: tmp_path / who for who in takers}
    runs = {who: weak.run(taker, "leaving", file=str(files[who]), waits=waits) for who, taker in takers.items()}
    for run in runs.values():
        if waits:
            run.wait_for_line("left")
            weak.prefect.set_state(run.run_id, "CANCELLING", name="Cancelling")
        run.wait_for_state("CANCELLED" if waits else "COMPLETED")
    runs[OURS].wait_for_rest()
    left = {who: int(file.read_text()) for who, file in files.items()}
    assert not _alive(left[OURS])
    wait_until(lambda: not _engine_alive(runs[THEIRS]), timeout_s=RUN_S, what=runs[THEIRS].story)
    assert _alive(left[THEIRS])
    os.kill(left[THEIRS], signal.SIGKILL)


def _engine_alive(run: Handle) -> bool:
    return _alive(int(weak_pid)) if (weak_pid := run.prefect.run(run.run_id)["infrastructure_pid"]) else False


@pytest.mark.parametrize("who", _WHO_IF_LONG)
def test_a_cancelled_run_that_goes_on_is_killed_when_the_configured_grace_is_over(
    weak: Weak, takers: dict[str, Taker], who: str
) -> None:
    """1.5 seconds here; the worker's 30 cannot be changed."""
    run = weak.run(takers[who], "deaf")
    run.wait_for_line("hears nothing")
    weak.prefect.set_state(run.run_id, "CANCELLING", name="Cancelling")
    wait_until(
        lambda: weak.prefect.state(run.run_id) != "CANCELLING", timeout_s=20 if who == OURS else 90, what=run.story
    )
    types = [row["type"] for row in _states(weak.prefect, run.run_id)]
    assert types[-2:] == ["CANCELLING", "CANCELLED"], run.story()
    first, last = (row["timestamp"] for row in _states(weak.prefect, run.run_id)[-2:])
    shortest_s, longest_s = (29, 60) if who == THEIRS else (1.4, 20)
    assert shortest_s < _seconds(first, last) < longest_s, run.story()


def _states(prefect: PrefectServer, run_id: str) -> list[dict[str, Any]]:
    rows = prefect.ask("GET", f"/flow_run_states/?flow_run_id={run_id}")
    return sorted(rows, key=lambda row: str(row["timestamp"]))


def _seconds(first: str, last: str) -> float:
    begun, ended = (datetime.fromisoformat(text) for text in (first, last))
    return (ended - begun).total_seconds()
