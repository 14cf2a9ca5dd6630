"""Spare runners and the two steps of a start: nothing is started that nobody said go to, and nothing is left."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from flowherd_runner.contract.hand_over import GO
from flowherd_runner.contract.identity import is_alive, process_status
from flowherd_runner.contract.variables import NO_RUN_ID, RUN_ID_VARIABLE
from flowherd_runner.isolation import landlock
from flowherd_runner.osapi import open_fds
from flowherd_runner.rehearsal import rehearse_flow, rehearse_runner
from tests.support.runner import THREAD_AT_START, ForkServer, Run
from tests.support.waiting import wait_until

StartForkServer = Callable[..., ForkServer]
TOUCH = "import pathlib\npathlib.Path({!r}).touch()\ndef main(): print('ran')"


@pytest.fixture
def server(start_fork_server: StartForkServer) -> ForkServer:
    return start_fork_server(spares_wanted=1)


@pytest.fixture(params=[0, 1], ids=["forked on the spot", "spare"])
def any_server(request: pytest.FixtureRequest, start_fork_server: StartForkServer) -> ForkServer:
    """A fork server that forks its runners when they are asked for, and one that has them ready."""
    found = start_fork_server(spares_wanted=request.param)
    if request.param:
        found.wait_for_spare()
    return found


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def flow_of(runner: int) -> int:
    """Return the pid of the flow process of a spare, which may be just being born."""
    (flow,) = wait_until(lambda: children(runner))
    return flow


def gone(pid: int) -> bool:
    status = process_status(pid)
    return status is None or status[2] in "ZX"


def prepared(server: ForkServer, code: str, **spec: object) -> Run:
    source = server.runs_directory / "flow.py"
    source.write_text(code)
    return server.prepare("python", {"ref": f"{source}:main"}, **spec)


def test_a_spare_takes_the_next_run_and_another_is_made(server: ForkServer) -> None:
    pids = []
    for number in range(3):
        spare = server.wait_for_spare()
        flow = flow_of(spare)
        run = server.python(f"import os\ndef main(): print(os.getpid(), {number})")
        assert run.pid == spare
        assert run.wait()["reason"] == "exited"
        assert run.lines("stdout") == [f"{flow} {number}"]
        assert run.started is not None and run.started["flow_pid"] == flow
        pids.append(spare)
    assert len(set(pids)) == 3
    while set(server.gone) != set(pids):
        server.receive("gone")
    assert set(server.gone.values()) == {0}


def test_a_runner_waits_for_go_and_says_when_start_and_end_are_recorded(any_server: ForkServer, tmp_path: Path) -> None:
    run = prepared(any_server, TOUCH.format(str(tmp_path / "imported")))
    with any_server.hand_over(run) as channel:
        hint = json.loads(channel.recv(4096))
        assert children(run.pid) == [hint["flow_pid"]]
        assert run.started is None and run.lock_is_held() and not (tmp_path / "imported").exists()
        channel.send(GO)
        assert json.loads(channel.recv(4096)) == {"started": True}
        assert run.started is not None and run.started["flow_pid"] == hint["flow_pid"]
        assert json.loads(channel.recv(4096)) == {"ended": True}
        assert run.exit is not None and not run.lock_is_held()
        assert channel.recv(4096) == b""
    assert run.wait()["exit_code"] == 0
    assert run.lines("stdout") == ["ran"]


def test_a_runner_that_had_to_look_for_processes_keeps_its_lock_until_it_has_ended(any_server: ForkServer) -> None:
    run = prepared(any_server, "import subprocess\ndef main(): subprocess.Popen(['sleep', '100'])")
    with any_server.hand_over(run) as channel:
        channel.send(GO)
        said = [json.loads(data) for data in iter(lambda: channel.recv(4096), b"")]
    assert run.wait()["leftovers_count"] == 1
    assert "started" in said[-1]


@pytest.mark.parametrize("moment", ["at once", "when it is prepared"])
def test_end_of_file_in_place_of_go_starts_nothing_and_leaves_nothing(
    any_server: ForkServer, tmp_path: Path, moment: str
) -> None:
    run = prepared(any_server, TOUCH.format(str(tmp_path / "imported")))
    channel = any_server.hand_over(run)
    if moment != "at once":
        assert channel.recv(4096)
    processes = [run.pid, *children(run.pid)]
    channel.close()
    wait_until(lambda: all(map(gone, processes)))
    assert any_server.receive("gone")["pid"] == run.pid
    assert not run.lock_is_held()
    assert (run.started, run.exit, run.lines()) == (None, None, [])
    assert not (tmp_path / "imported").exists()
    assert any_server.start(run).wait()["exit_code"] == 0, "the same directory can still be started"


def test_a_signal_that_arrives_before_go_ends_the_run_after_it(any_server: ForkServer) -> None:
    run = any_server.prepare("command", {"argv": ["sleep", "100"]})
    with any_server.hand_over(run) as channel:
        assert channel.recv(4096)
        run.stop()
        channel.send(GO)
        assert run.wait()["reason"] == "cancelled"


@pytest.mark.parametrize("end", ["kill", "end of file"])
def test_spares_end_with_their_fork_server_and_runs_go_on(
    start_fork_server: StartForkServer, end: str, tmp_path: Path
) -> None:
    server = start_fork_server(spares_wanted=3)
    run = server.command("sh", "-c", "echo ready; while [ ! -e go ]; do sleep 0.01; done")
    run.wait_for_line("ready")
    while len(server.spares) < 3:
        server.receive("spares")
    processes = [pid for spare in server.spares for pid in (spare, flow_of(spare))]
    assert len(set(processes)) == 6
    if end == "kill":
        server.process.kill()
    else:
        server.channel.close()
    server.process.wait(timeout=10)
    wait_until(lambda: all(map(gone, processes)))
    assert run.lock_is_held()
    (run.directory / "work" / "go").touch()
    assert run.wait()["exit_code"] == 0


def test_a_killed_spare_is_no_run_and_is_replaced(server: ForkServer) -> None:
    spare = server.wait_for_spare()
    flow = flow_of(spare)
    os.kill(spare, signal.SIGKILL)
    while spare in server.spares or not server.spares:
        server.receive("spares")
    assert gone(flow)
    run = server.command("true")
    assert run.wait()["exit_code"] == 0
    server.receive("gone")
    assert set(server.gone) == {run.pid}


def test_spares_that_only_end_are_not_made_for_ever(server: ForkServer) -> None:
    for _ in range(3):
        os.kill(server.wait_for_spare(), signal.SIGKILL)
        server.receive("spares")
    assert "no more" in server.output.read_text()
    server.spares_wanted = 0
    assert server.command("true").wait()["exit_code"] == 0
    assert server.spares == []


def test_the_number_of_spares_can_be_lowered(start_fork_server: StartForkServer) -> None:
    server = start_fork_server(spares_wanted=2)
    while len(server.spares) < 2:
        server.receive("spares")
    before = list(server.spares)
    server.send(json.dumps({"op": "spares", "number": 0}).encode())
    wait_until(lambda: all(map(gone, before)))
    for wrong in (-1, 17, "1", None):
        server.send(json.dumps({"op": "spares", "number": wrong}).encode())
        assert "number of spare runners" in server.receive("refused")["error"]


def test_nobody_but_the_runner_has_the_lock(start_fork_server: StartForkServer) -> None:
    server = start_fork_server(spares_wanted=2)
    while len(server.spares) < 2:
        server.receive("spares")
    run = server.command("sh", "-c", "echo ready; while [ ! -e go ]; do sleep 0.01; done")
    run.wait_for_line("ready")
    while len(server.spares) < 2:
        server.receive("spares")
    pids = [server.process.pid, *(pid for one in (run.pid, *server.spares) for pid in (one, flow_of(one)))]
    lock = (run.directory / "lock").stat()
    assert [pid for pid in pids if any(os.path.samestat(one.stat(), lock) for one in _open_files(pid))] == [run.pid]
    (run.directory / "work" / "go").touch()
    run.wait()


def _open_files(pid: int) -> list[Path]:
    return [path for path in Path(f"/proc/{pid}/fd").iterdir() if path.exists()]


def test_a_changed_file_throws_the_spares_away(start_fork_server: StartForkServer, tmp_path: Path) -> None:
    module = tmp_path / "preloaded.py"
    module.write_text("VALUE = 1")
    server = start_fork_server(preload=["preloaded"], env={"PYTHONPATH": str(tmp_path)}, spares_wanted=1)
    spare = server.wait_for_spare()
    module.write_text("VALUE = 22")
    server.receive("stale")
    wait_until(lambda: gone(spare))
    answer = server.ask(server.prepare("command", {"argv": ["true"]}), if_fresh=True)
    assert answer["stale"] is True
    while server.spares:
        server.receive("spares")
    assert children(server.process.pid) == []


def test_a_fork_server_with_threads_has_no_spares_and_starts_in_two_steps(
    start_fork_server: StartForkServer, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(THREAD_AT_START)
    server = start_fork_server(env={"PYTHONPATH": str(tmp_path)})
    server.send(json.dumps({"op": "spares", "number": 1}).encode())
    run = prepared(server, "def main(): print('ran')")
    with server.hand_over(run) as channel:
        assert json.loads(channel.recv(4096)).keys() == {"flow_pid"}
        assert run.started is None
        assert children(server.process.pid) == [run.pid]
        channel.send(GO)
        assert run.wait()["exit_code"] == 0
    assert run.lines("stdout") == ["ran"]


def test_what_differs_between_runs_is_arranged_after_the_hand_over(
    start_fork_server: StartForkServer, tmp_path: Path
) -> None:
    """Two runs that agree in nothing, each from a spare that was forked before either was known."""
    code = """
import os, resource, signal, time
def main():
    mask = os.umask(0)
    mark = open("/proc/self/environ").read().split("FLOWHERD_FLOW_RUN_ID=")[1].split("\\0")[0]
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    print(os.getcwd(), os.environ["OWN"], time.tzname[0], mark, oct(mask), files)
    print(signal.getsignal(signal.SIGTERM).name, signal.pthread_sigmask(signal.SIG_BLOCK, []))
    print(len(os.listdir("/proc/self/fd")))
"""
    server = start_fork_server(env={RUN_ID_VARIABLE: NO_RUN_ID}, spares_wanted=1)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    seen = []
    for name, zone, files in (("one", "AAA+3", 100), ("two", "BBB-4", 200)):
        spec = {"env": {"OWN": name, "TZ": zone}, "limits": {"open_files": files}, "working_dir": str(tmp_path / name)}
        server.wait_for_spare()
        run = server.start(prepared(server, code, **spec))
        assert run.wait()["exit_code"] == 0, run.describe()
        first, *others = run.lines("stdout")
        umask = oct(os.umask(0o022))
        os.umask(int(umask, 8))
        mark = run.spec["flow_run_id"]
        assert first == f"{tmp_path / name} {name} {zone[:3]} {mark} {umask} {files}"
        seen.append(others)
    assert seen[0] == seen[1]
    assert seen[0][0] == "SIG_DFL set()"


@pytest.mark.parametrize("apart", [False, True])
def test_a_rehearsal_raises_nothing_and_leaves_no_descriptor_and_no_mount(apart: bool) -> None:
    before = open_fds(), Path("/proc/self/mountinfo").read_text()
    rehearse_runner()
    rehearse_flow(apart)
    assert (open_fds(), Path("/proc/self/mountinfo").read_text()) == before


def test_a_rehearsal_is_complete_on_a_kernel_without_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 0)
    rehearse_flow(True)


def test_a_spare_that_has_rehearsed_touches_less_memory_in_its_start(start_fork_server: StartForkServer) -> None:
    """Copied pages are counted, not milliseconds: those of the flow process from its run's order to its user code."""
    rehearsed = _pages_of_a_start(start_fork_server(spares_wanted=1, idle_s=0.0), rehearses=True)
    fresh = _pages_of_a_start(start_fork_server(spares_wanted=1, idle_s=100.0), rehearses=False)
    assert rehearsed < fresh * 0.7, (rehearsed, fresh)


def _pages_of_a_start(server: ForkServer, *, rehearses: bool) -> int:
    flow = flow_of(server.wait_for_spare())
    wait_until(lambda: not rehearses or _faults(flow) > 500)
    before = wait_until(lambda: _faults(flow) if (status := process_status(flow)) and status[2] == "S" else None)
    run = server.python("import resource\ndef main(): print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)")
    run.wait()
    return int(run.lines("stdout")[0]) - before


def _faults(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def test_a_flow_process_from_a_spare_dies_with_its_runner(server: ForkServer) -> None:
    run = server.python("import time\ndef main():\n    print('ready')\n    time.sleep(100)")
    run.wait_for_line("ready")
    assert run.started is not None
    flow, ticks = run.started["flow_pid"], process_status(run.started["flow_pid"])
    os.kill(run.pid, signal.SIGKILL)
    wait_until(lambda: ticks is None or not is_alive(flow, ticks[1]))
