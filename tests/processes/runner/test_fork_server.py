"""The fork server: its messages, what its children inherit, and that its end does not affect them."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flowherd_runner.contract.messages import MAX_MESSAGE_BYTES, encode_message
from flowherd_runner.contract.reasons import FORK_SERVER_BROKEN, RUNNER_BROKEN
from flowherd_runner.contract.variables import IMPORT_ENVIRONMENT_VARIABLE
from tests.support.runner import BOOT, THREAD_AT_START, ForkServer
from tests.support.waiting import wait_until

StartForkServer = Callable[..., ForkServer]
WAIT_FOR_GO = "echo ready; while [ ! -e go ]; do sleep 0.01; done; echo done"


def test_it_reports_what_it_has_imported_and_what_not(start_fork_server: StartForkServer) -> None:
    server = start_fork_server(preload=["sqlite3", "no_such_module", "xml.dom.minidom"])
    ready = server.ready
    assert ready["pid"] == server.process.pid
    assert ready["preloaded"] == ["sqlite3", "xml.dom.minidom"]
    assert ready["failed"] == {"no_such_module": "ModuleNotFoundError: No module named 'no_such_module'"}
    assert ready["threads"] == 1
    assert ready["python"] == ".".join(map(str, sys.version_info[:3]))
    run = server.python("import sys\ndef main(): print('sqlite3' in sys.modules)")
    run.wait()
    assert run.lines() == ["True"]


def test_a_module_that_ends_the_interpreter_does_not_end_it(start_fork_server: StartForkServer, tmp_path: Path) -> None:
    (tmp_path / "quitter.py").write_text("import sys; sys.exit(3)")
    server = start_fork_server(preload=["quitter"], env={"PYTHONPATH": str(tmp_path)})
    assert server.ready["failed"] == {"quitter": "SystemExit: 3"}


@pytest.mark.parametrize("former", ["flowherd_runner.prefect.warm", "flowherd_runner.prefect3.warm"])
def test_a_module_that_an_agent_of_0_1_0_names_is_found_where_it_is_now(
    start_fork_server: StartForkServer, former: str
) -> None:
    """Such an agent may still run when its files are replaced. This Python has no Prefect, which is why it fails."""
    failed = start_fork_server(preload=[former]).ready["failed"]
    assert failed == {former: "ModuleNotFoundError: No module named 'prefect'"}


def test_modules_are_imported_in_the_environment_that_the_runs_will_have(
    start_fork_server: StartForkServer, tmp_path: Path
) -> None:
    (tmp_path / "reader.py").write_text("import os\nseen = [os.environ.get(name) for name in ('NEW', 'OLD')]")
    variables = json.dumps({"NEW": "1", "OLD": "2"})
    env = {"PYTHONPATH": str(tmp_path), "OLD": "0", IMPORT_ENVIRONMENT_VARIABLE: variables}
    server = start_fork_server(preload=["reader"], env=env)
    code = f"""
import os, reader
def main():
    print(reader.seen, [os.environ.get(name) for name in ("NEW", "OLD", "{IMPORT_ENVIRONMENT_VARIABLE}")])
"""
    run = server.python(code)
    run.wait()
    assert run.lines() == ["['1', '2'] [None, '0', None]"]


def test_invalid_messages_are_refused_and_do_no_harm(fork_server: ForkServer, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    try:
        bad: list[tuple[bytes, list[int]]] = [
            (b"no json", []),
            (b"[]", []),
            (b"\xff" * 100, [reading]),
            (b"x" * MAX_MESSAGE_BYTES, []),
            (encode_message({"op": "dance", "request": 1}), []),
            (encode_message({"op": "start", "request": 2}), [reading]),
            (encode_message({"op": "start", "request": 3, "directory": "relative"}), [reading]),
            (encode_message({"op": "start", "request": 4, "directory": str(tmp_path)}), []),
            (encode_message({"op": "start", "request": 5, "directory": str(tmp_path)}), [reading, writing]),
            (encode_message({"op": "start", "request": 6, "directory": str(tmp_path / "none")}), [reading]),
        ]
        for data, fds in bad:
            fork_server.send(data, fds)
            assert fork_server.receive("refused")["error"]
    finally:
        os.close(reading)
        os.close(writing)
    assert not [name for name in open_files(fork_server.process.pid) if name.startswith("pipe:")]
    assert fork_server.command("true").wait()["exit_code"] == 0


def open_files(pid: int) -> list[str]:
    return [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]


def test_the_lock_is_held_by_the_runner_alone_until_it_ends(fork_server: ForkServer) -> None:
    code = """
import os, time
def main():
    print("\\n".join(os.readlink("/proc/self/fd/" + fd) for fd in os.listdir("/proc/self/fd")
                    if os.path.exists("/proc/self/fd/" + fd)))
    print("ready")
    while not os.path.exists("go"):
        time.sleep(0.01)
"""
    run = fork_server.python(code)
    run.wait_for_line("ready")
    assert run.lock_is_held()
    lock = str(run.directory / "lock")
    pids = [fork_server.process.pid, run.pid, wait_until(lambda: run.started)["flow_pid"]]
    holders = [pid for pid in pids if lock in open_files(pid)]
    assert holders == [run.pid]
    opened = run.lines()[:-1]
    assert len([name for name in opened if name.startswith("socket:")]) == 1
    assert not [name for name in opened if str(run.directory) in name and not name.endswith("work")]
    assert not [name for name in opened if "eventpoll" in name or "signalfd" in name]
    (run.directory / "work" / "go").touch()
    run.wait()
    assert not run.lock_is_held()


def test_a_command_inherits_nothing_but_its_streams(fork_server: ForkServer) -> None:
    code = (
        "import os; print(sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:-1], os.readlink('/proc/self/fd/0'))"
    )
    run = fork_server.command(sys.executable, "-c", code)
    run.wait()
    assert run.lines() == ["[0, 1, 2] /dev/null"]


def test_runs_survive_a_killed_fork_server(fork_server: ForkServer) -> None:
    runs = [fork_server.command("sh", "-c", WAIT_FOR_GO) for _ in range(3)]
    for run in runs:
        run.wait_for_line("ready")
    fork_server.process.kill()
    fork_server.process.wait()
    for run in runs:
        assert run.lock_is_held()
        (run.directory / "work" / "go").touch()
    for run in runs:
        assert run.wait()["reason"] == "exited"
        assert run.lines() == ["ready", "done"]


def test_a_fork_server_ends_when_the_agent_is_gone_and_its_runs_go_on(fork_server: ForkServer) -> None:
    run = fork_server.command("sh", "-c", WAIT_FOR_GO)
    run.wait_for_line("ready")
    fork_server.channel.close()
    assert fork_server.process.wait(timeout=10) == 0
    assert run.lock_is_held()
    (run.directory / "work" / "go").touch()
    assert run.wait()["exit_code"] == 0


def test_a_fork_server_ends_by_sigterm_and_its_runs_go_on(fork_server: ForkServer) -> None:
    run = fork_server.command("sh", "-c", WAIT_FOR_GO)
    run.wait_for_line("ready")
    fork_server.process.terminate()
    assert fork_server.process.wait(timeout=10) == -signal.SIGTERM
    (run.directory / "work" / "go").touch()
    assert run.wait()["exit_code"] == 0


def test_an_agent_that_does_not_read_delays_no_runner(fork_server: ForkServer) -> None:
    """More refusals than the socket holds, then a run that is started all the same."""
    run = fork_server.prepare("command", {"argv": ["true"]})
    lock = os.open(run.directory / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    fork_server.channel.settimeout(10)
    for _ in range(1000):
        fork_server.send(b"{}")
    fork_server.send(encode_message({"op": "start", "request": "x", "directory": str(run.directory)}), [lock])
    os.close(lock)
    wait_until(lambda: run.exit)
    assert fork_server.receive("started")["request"] == "x"


def test_with_threads_in_the_fork_server_runners_are_started_by_exec(
    start_fork_server: StartForkServer, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(THREAD_AT_START)
    server = start_fork_server(preload=["sqlite3"], env={"PYTHONPATH": str(tmp_path)})
    assert server.ready["threads"] == 2
    run = server.python("import sys, logging\ndef main(x):\n    logging.info('sqlite3' in sys.modules)\n    print(x)",
                        parameters={"x": 3})  # fmt: skip
    assert run.wait()["exit_code"] == 0
    assert run.lines() == ["False", "3"]
    assert not run.lock_is_held()
    assert server.receive("gone") == {"op": "gone", "pid": run.pid, "status": 0}
    stopped = server.command("sh", "-c", "echo ready; sleep 100")
    stopped.wait_for_line("ready")
    stopped.stop()
    assert stopped.wait()["reason"] == "cancelled"


def test_a_file_that_a_preloaded_module_reads_is_at_the_same_position_in_each_callable(
    start_fork_server: StartForkServer, tmp_path: Path
) -> None:
    (tmp_path / "keeper.py").write_text("file = open(__file__)\nfirst = file.read(1)\nfile.seek(file.tell())\n")
    server = start_fork_server(preload=["keeper"], env={"PYTHONPATH": str(tmp_path)})
    assert server.ready["refused"] == {}
    code = "import keeper\ndef main(): print(keeper.file.readline(), end='')"
    runs = [server.python(code) for _ in range(3)]
    for run in runs:
        run.wait()
    assert [run.lines() for run in runs] == [["ile = open(__file__)"]] * 3


def test_runners_are_reaped_and_their_ends_reported(fork_server: ForkServer) -> None:
    runs = [fork_server.command("true") for _ in range(5)]
    for run in runs:
        run.wait()
    while set(fork_server.gone) != {run.pid for run in runs}:
        fork_server.receive("gone")
    assert set(fork_server.gone.values()) == {0}
    children = Path(f"/proc/{fork_server.process.pid}/task/{fork_server.process.pid}/children")
    assert children.read_text() == ""


@pytest.mark.parametrize("spec", [None, "{", '{"contract": 99}', '{"contract": 1, "flow_run_id": "x"}'])
def test_a_run_whose_spec_cannot_be_used_is_not_started(fork_server: ForkServer, spec: str | None) -> None:
    run = fork_server.prepare("command", {"argv": ["true"]})
    if spec is None:
        (run.directory / "spec.json").unlink()
    else:
        (run.directory / "spec.json").write_text(spec)
    fork_server.start(run)
    assert os.waitstatus_to_exitcode(fork_server.receive("gone")["status"]) == RUNNER_BROKEN
    assert (run.started, run.exit) == (None, None)
    assert "spec.json" in (run.directory / "runner.err").read_text() or spec is not None


@pytest.mark.parametrize("arguments", [[], ["forkserver"], ["forkserver", "--fd", "x"], ["forkserver", "--fd", "77"]])
def test_wrong_arguments_are_refused_with_their_own_code(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, str(BOOT), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == FORK_SERVER_BROKEN
    assert done.stderr


def test_no_run_has_modules_in_its_memory_that_only_programs_need(fork_server: ForkServer) -> None:
    names = {"argparse", "bz2", "gettext", "lzma", "shutil", "subprocess", "tempfile"}
    code = f"import sys\ndef main(): print(*{names} & {{*sys.modules}})"
    run = fork_server.python(code)
    assert run.wait()["exit_code"] == 0, run.describe()
    assert run.lines("stdout") == [""]
