"""A power cut at any moment of a run, on a disk that keeps or loses what was not flushed, breaks no promise."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

import pytest

from flowherd import LocalAgent
from flowherd.backends.memory import MemoryBackend
from flowherd.states import FINISHED, RunState
from flowherd.values import StateReport, claim_token
from flowherd_runner.contract.identity import boot_id
from flowherd_runner.contract.variables import RUN_ID_VARIABLE
from tests.support.agents import going
from tests.support.debian_programs import required_program
from tests.support.power_cut import CUTS, STRACE, Disk, read_calls
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow, pytest.mark.timeout(180)]

#: Records that the user's code runs, then prints three lines.
FLOW = 'echo ran >> "{marks}/ran-${variable}"; seq 3'
#: A run that makes its directory itself, and one that takes a blank.
RUNS = ("11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222")
OTHER_BOOT = "00000000-aaaa-4bbb-8ccc-dddddddddddd"

#: Runs these at an agent, one after the other; what the backend has stored becomes a file too, in the order of events.
PROGRAM = """
import sys
from pathlib import Path
from flowherd import LocalAgent
from flowherd.backends.memory import MemoryBackend
from tests.support.agents import going, wait_for_end
from tests.support.waiting import wait_until
marks, state, argv, runs = Path(sys.argv[1]), Path(sys.argv[2]), ["sh", "-c", sys.argv[3]], sys.argv[4:]

class Marking(MemoryBackend):
    def claim(self, flow_run, token):
        super().claim(flow_run, token)
        (marks / f"Submitted-{flow_run.id}").touch()
    def write_logs(self, lines):
        super().write_logs(lines)
        for line in lines:
            if line.message.isdigit():
                (marks / f"{line.message}-{line.flow_run_id}").touch()
    def report(self, report):
        super().report(report)
        (marks / f"{report.state.value}-{report.flow_run_id}").touch()

backend = Marking()
with going(LocalAgent(backend=backend, hostname_label=False)):
    for run_id in runs:
        backend.add_run({"type": "Command", "argv": argv}, run_id=run_id)
        assert wait_for_end(backend, run_id) == "Success"
        wait_until(lambda: not list((state / "runs").iterdir()) and len(list((state / "blank").iterdir())) >= 2)
"""


@dataclass(frozen=True)
class AfterCut:
    """What a power cut leaves of one run, and what had happened before it."""

    run_id: str
    #: Where its directory is, "runs" or "blank"; empty if it is nowhere.
    place: str
    files: tuple[tuple[PurePosixPath, bytes], ...]
    #: States that the backend has stored, in their order.
    states: tuple[str, ...]
    #: Lines that the backend has stored.
    lines: frozenset[str]
    user_code_ran: bool
    #: Whether the runner had done its last flush.
    is_recorded: bool


def record(tmp_path: Path, marks: Path, state: Path) -> Path:
    """Run the program under strace; return the prefix of what that has written."""
    strace, flow = required_program("strace", "strace"), FLOW.format(marks=marks, variable=RUN_ID_VARIABLE)
    command = [str(strace), *STRACE, "-o", str(tmp_path / "trace"), sys.executable, "-c", PROGRAM]
    done = subprocess.run([*command, str(marks), str(state), flow, *RUNS], capture_output=True, text=True, check=False)
    if "ptrace" in done.stderr and "not permitted" in done.stderr:
        pytest.skip(f"this host does not let strace trace: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr[-3000:]
    return tmp_path / "trace"


def cuts(trace: Path, marks: Path, state: Path) -> Iterator[AfterCut]:
    """Yield what a power cut leaves after each recorded call, each way, without repetitions."""
    disk, seen = Disk(state), set[AfterCut]()
    happened: list[str] = []
    recorded: set[str] = set()
    for call in read_calls(trace):
        if call.path.parent == PurePosixPath(marks) and call.name == "open" and call.path.name not in happened:
            happened.append(call.path.name)
        elif not disk.replay(call):
            continue
        if call.name == "flush" and call.path.name == ".exit.json.new":
            recorded.add(call.path.parent.name)
        for cut in CUTS:
            left = disk.after_cut(cut)
            for run_id in RUNS:
                one = _of_run(run_id, left, happened, is_recorded=run_id in recorded)
                if one not in seen:
                    seen.add(one)
                    yield one


def _of_run(run_id: str, left: dict[PurePosixPath, bytes], happened: list[str], *, is_recorded: bool) -> AfterCut:
    place = PurePosixPath("runs") / run_id
    if not any(place in path.parents for path in left):
        specs = (p for p, data in left.items() if p.parts[0] == "blank" and run_id.encode() in data)
        place = next((path.parent for path in specs), PurePosixPath())
    files = {path.relative_to(place): data for path, data in left.items() if place.parts and place in path.parents}
    marks = [mark.partition("-")[0] for mark in happened if mark.endswith(run_id)]
    return AfterCut(
        run_id=run_id,
        place=place.parts[0] if files else "",
        files=tuple(sorted(files.items())),
        states=tuple(mark for mark in marks if mark.istitle()),
        lines=frozenset(mark for mark in marks if mark.isdigit()),
        user_code_ran="ran" in marks,
        is_recorded=is_recorded,
    )


def put_back(one: AfterCut, number: int, state: Path, backend: MemoryBackend, identity: str) -> str:
    """Make what the power cut left, as a run of its own; return its id."""
    run_id = one.run_id[:-6] + f"{number:06d}"
    backend.add_run({"type": "Command", "argv": ["true"]}, run_id=run_id)
    if one.states:
        (flow_run,) = (run for run in backend.ready_runs((), ()) if run.id == run_id)
        backend.claim(flow_run, claim_token(identity, run_id))
    for name in one.states[1:]:
        claim, at = claim_token(identity, run_id), datetime.now(timezone.utc)
        backend.report(StateReport(flow_run_id=run_id, state=RunState(name), message=name, at=at, claim=claim))
    place = state / "runs" / run_id if one.place == "runs" else state / "blank" / str(number)
    for path, data in one.files:
        target = place / path
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.write_bytes(
            data.replace(one.run_id.encode(), run_id.encode()).replace(boot_id().encode(), OTHER_BOOT.encode())
        )
        target.chmod(0o600)
    return run_id


def test_a_power_cut_starts_no_run_twice_and_tells_no_ended_run_lost(tmp_path: Path, clean_environment: Path) -> None:
    marks, state = tmp_path / "marks", clean_environment / "agents" / "agent"
    marks.mkdir()
    trace = record(tmp_path, marks, state)
    identity = json.loads((state / "agent.json").read_text())["identity"]
    backend = MemoryBackend()
    found = {
        put_back(one, number, state, backend, identity): one for number, one in enumerate(cuts(trace, marks, state))
    }
    with going(LocalAgent(backend=backend, hostname_label=False)):
        wait_until(
            lambda: all(backend.state(run_id) in FINISHED for run_id in found),
            timeout_s=30,
            what=lambda: str([one for run_id, one in found.items() if backend.state(run_id) not in FINISHED][:3]),
        )
    for run_id, one in found.items():
        check(run_id, one, backend, marks)
    assert len(found) > 40
    assert any(one.place == "blank" for one in found.values())


def check(run_id: str, one: AfterCut, backend: MemoryBackend, marks: Path) -> None:
    ran, end = marks / f"ran-{run_id}", (backend.state(run_id), backend.message(run_id))
    starts = len(ran.read_text().splitlines()) if ran.exists() else 0
    assert starts + one.user_code_ran <= 1, (end, one)
    if one.is_recorded:
        assert end[0] is RunState.SUCCESS, (end, one)
        if "Success" not in one.states:
            lines = [line for line in backend.log(run_id) if line.isdigit()]
            assert sorted({*lines, *one.lines}) == ["1", "2", "3"], (lines, one)
    elif one.user_code_ran and end[0] is not RunState.SUCCESS:
        assert "The host was restarted while the flow was running" in end[1], (end, one)
    states = [report.state for report in backend.history if report.flow_run_id == run_id and report.state in FINISHED]
    assert len(states) == 1, (states, one)
