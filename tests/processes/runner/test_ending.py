"""How a run ends: every cause has its own record, and no process of the run is left."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from flowherd_runner.contract.files import STOP_FILE
from tests.support.runner import ForkServer
from tests.support.waiting import wait_until

STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.01; done"


@pytest.mark.parametrize(
    ("body", "code", "printed"),
    [
        ("pass", 0, []),
        ("sys.exit()", 0, []),
        ("sys.exit(3)", 3, []),
        ("sys.exit(259)", 3, []),
        ("sys.exit('a text')", 1, ["a text"]),
        ("os._exit(9)", 9, []),
        ("return 5", 0, []),
    ],
)
def test_a_callable_exits_as_it_would_in_an_interpreter(
    fork_server: ForkServer, body: str, code: int, printed: list[str]
) -> None:
    run = fork_server.python(f"import os, sys\ndef main(): {body}")
    record = run.wait()
    # A text that the process leaves with is the cause of its end.
    reason = "exception" if printed else "exited"
    assert (record["reason"], record["grade"], record["exit_code"]) == (reason, "proven", code)
    assert run.lines() == printed
    assert not printed or record["evidence"] == f"SystemExit: {printed[0]}"


@pytest.mark.parametrize(
    ("body", "number"),
    [
        ("os.abort()", signal.SIGABRT),
        ("ctypes.string_at(0)", signal.SIGSEGV),
        ("signal.raise_signal(signal.SIGTERM)", signal.SIGTERM),
        ("raise KeyboardInterrupt", signal.SIGINT),
    ],
)
def test_a_signal_is_recorded_by_its_number(fork_server: ForkServer, body: str, number: int) -> None:
    run = fork_server.python(f"import ctypes, os, signal\ndef main(): {body}", limits={"open_files": 200})
    record = run.wait()
    assert (record["reason"], record["signal"], record["exit_code"]) == ("signal", number, None)
    assert signal.Signals(number).name in record["evidence"]


def test_an_exception_is_logged_with_the_users_frames_only(fork_server: ForkServer) -> None:
    code = """
class Odd(Exception):
    pass
def inner():
    raise KeyError("cause")
def main():
    try:
        inner()
    except KeyError as error:
        raise Odd("x" * 3) from error
"""
    run = fork_server.python(code)
    record = run.wait()
    assert record["reason"] == "exception"
    assert record["exception"]["type"].endswith(".Odd")
    assert record["exception"]["message"] == "xxx; caused by KeyError: 'cause'"
    assert record["evidence"].endswith(".Odd: xxx; caused by KeyError: 'cause'")
    [text] = run.lines()
    assert text.count("Traceback (most recent call last)") == 2
    assert "in inner" in text
    assert "flowherd_runner" not in text


def test_an_error_of_the_module_itself_is_an_exception(fork_server: ForkServer) -> None:
    run = fork_server.python("import no_such_module_anywhere\ndef main(): pass")
    record = run.wait()
    assert (record["reason"], record["exception"]["type"]) == ("exception", "ModuleNotFoundError")
    [text] = run.lines()
    assert "importlib" not in text


def test_threads_and_atexit_handlers_run_before_the_end(fork_server: ForkServer) -> None:
    code = """
import atexit, threading
def main():
    atexit.register(print, "atexit")
    gate = threading.Event()
    threading.Thread(target=lambda: (gate.wait(), print("thread"))).start()
    threading.Timer(0.05, gate.set).start()
    print("main")
    raise SystemExit(4)
"""
    run = fork_server.python(code)
    assert run.wait()["exit_code"] == 4
    assert run.lines() == ["main", "thread", "atexit"]


def test_the_users_excepthook_gets_the_exception_too(fork_server: ForkServer) -> None:
    run = fork_server.python(
        "import sys\ndef main():\n    sys.excepthook = lambda *a: print('hook', a[1])\n    raise ValueError('v')"
    )
    assert run.wait()["reason"] == "exception"
    assert run.lines("stdout") == ["hook v"]


# The time limit.


def test_a_run_over_its_time_is_asked_and_then_killed(fork_server: ForkServer) -> None:
    began = time.monotonic()
    record = fork_server.command("sh", "-c", STUBBORN, limits={"run_time_s": 0.3}, grace_s=0.2).wait()
    assert (record["reason"], record["signal"]) == ("timeout", signal.SIGKILL)
    assert "limit of 0.3 s" in record["evidence"]
    assert 0.5 <= time.monotonic() - began < 3


def test_the_cpu_limit_is_named(fork_server: ForkServer) -> None:
    run = fork_server.command("sh", "-c", "while :; do :; done", limits={"cpu_time_s": 1})
    record = run.wait()
    assert (record["reason"], record["signal"]) == ("signal", signal.SIGXCPU)
    assert "its limit is 1 s" in record["evidence"]
    assert record["cpu_time_s"] > 0.3


# Being asked to end.


def test_a_stop_is_recorded_with_the_agents_words(fork_server: ForkServer) -> None:
    run = fork_server.python("import time\ndef main():\n    print('ready')\n    time.sleep(100)")
    run.wait_for_line("ready")
    run.stop("agent_stop", "told to drain")
    record = run.wait()
    assert (record["reason"], record["detail"], record["signal"]) == ("agent_stop", "told to drain", signal.SIGTERM)
    assert f"from pid {os.getpid()}" in record["evidence"]


def test_a_run_that_ends_well_in_the_grace_time_was_still_stopped(fork_server: ForkServer) -> None:
    run = fork_server.command("sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done")
    run.wait_for_line("ready")
    run.stop()
    record = run.wait()
    assert (record["reason"], record["exit_code"], record["signal"]) == ("cancelled", 0, None)


def test_a_signal_without_a_stop_file_is_not_the_agents(fork_server: ForkServer) -> None:
    run = fork_server.command("sh", "-c", "echo ready; sleep 100")
    run.wait_for_line("ready")
    os.kill(run.pid, signal.SIGHUP)
    record = run.wait()
    assert (record["reason"], record["detail"]) == ("terminated", None)
    assert f"SIGHUP (1) from pid {os.getpid()}" in record["evidence"]


def test_a_damaged_stop_file_still_ends_the_run(fork_server: ForkServer) -> None:
    run = fork_server.command("sh", "-c", "echo ready; sleep 100")
    run.wait_for_line("ready")
    (run.directory / STOP_FILE).write_text("{")
    os.kill(run.pid, signal.SIGTERM)
    record = run.wait()
    assert record["reason"] == "terminated"
    assert "stop.json cannot be read" in record["evidence"]


def test_without_grace_the_run_is_killed_at_once(fork_server: ForkServer) -> None:
    run = fork_server.command("sh", "-c", "trap 'echo polite' TERM; echo ready; while :; do sleep 0.01; done")
    run.wait_for_line("ready")
    run.stop("memory_limit", "used 2 GiB of 1 GiB", grace_s=0)
    record = run.wait(timeout_s=3)
    assert (record["reason"], record["signal"]) == ("memory_limit", signal.SIGKILL)
    assert run.lines() == ["ready"]


def test_a_second_request_can_shorten_the_grace(fork_server: ForkServer) -> None:
    run = fork_server.command("sh", "-c", "trap 'echo asked' TERM; echo ready; while :; do sleep 0.01; done")
    run.wait_for_line("ready")
    run.stop(grace_s=100)
    run.wait_for_line("asked")
    run.stop("memory_limit", grace_s=0)
    record = run.wait(timeout_s=5)
    assert (record["reason"], record["signal"]) == ("cancelled", signal.SIGKILL)


def test_a_worker_has_the_grace_time_although_its_shell_is_gone(fork_server: ForkServer) -> None:
    worker = "trap 'sleep 0.6; echo cleaned; exit' TERM; echo ready; while :; do sleep 0.01; done"
    run = fork_server.command("sh", "-c", f'sh -c "{worker}" & wait')
    run.wait_for_line("ready")
    run.stop(grace_s=5)
    assert run.wait()["reason"] == "cancelled"
    assert run.lines("stdout") == ["ready", "cleaned"]


def test_a_stopped_process_can_be_ended(fork_server: ForkServer) -> None:
    run = fork_server.command("sh", "-c", "echo ready; kill -STOP $$")
    run.wait_for_line("ready")
    run.stop()
    assert run.wait(timeout_s=3)["signal"] == signal.SIGTERM


def test_a_request_that_comes_as_soon_as_the_runner_is_forked_is_obeyed(fork_server: ForkServer) -> None:
    for _ in range(10):
        run = fork_server.prepare("command", {"argv": ["sleep", "100"]})
        run.write_stop()
        fork_server.start(run)
        os.kill(run.pid, signal.SIGTERM)
        assert run.wait()["reason"] == "cancelled"


# What outlives the flow process.


def test_a_daemon_in_its_own_session_is_ended_and_named(fork_server: ForkServer) -> None:
    code = """
import os, signal, sys, time
def main():
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.write(writing, b"x")
            time.sleep(100)
        os._exit(0)
    os.read(reading, 1)
"""
    run = fork_server.python(code)
    began = time.monotonic()
    record = run.wait()
    assert time.monotonic() - began < 3
    assert (record["reason"], record["exit_code"]) == ("exited", 0)
    assert (record["leftovers_count"], record["searched"]) == (1, True)
    assert record["leftovers"][0]["name"].startswith("python")
    assert run.lines("flowherd")[0].startswith("the run left processes behind, which were ended: python")


def test_processes_that_start_others_cannot_outrun_their_end(fork_server: ForkServer) -> None:
    code = """
import os, signal, time
def main():
    for _ in range(8):
        if os.fork() == 0:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                if os.fork():
                    os._exit(0)
                time.sleep(0.002)
    time.sleep(0.2)
"""
    run = fork_server.python(code)
    record = run.wait(timeout_s=15)
    assert record["exit_code"] == 0
    assert record["leftovers_count"] >= 8
    assert len(record["leftovers"]) <= 50


def test_a_pipe_held_by_another_process_does_not_delay_the_end(fork_server: ForkServer, tmp_path: Path) -> None:
    """A process that does not belong to the run has the run's stdout open."""
    run = fork_server.command("sh", "-c", "echo ready; while [ ! -e go ]; do sleep 0.01; done")
    run.wait_for_line("ready")
    started = wait_until(lambda: run.started)
    with open(f"/proc/{started['flow_pid']}/fd/1", "wb"):  # noqa: PTH123
        (run.directory / "work" / "go").touch()
        assert run.wait(timeout_s=3)["exit_code"] == 0


def test_orphans_that_end_during_the_run_are_reaped(fork_server: ForkServer) -> None:
    code = "for i in 1 2 3 4 5; do (true &); done; echo ready; while [ ! -e go ]; do sleep 0.01; done"
    run = fork_server.command("sh", "-c", code)
    run.wait_for_line("ready")
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
    wait_until(lambda: len(children.read_text().split()) == 1)
    (run.directory / "work" / "go").touch()
    record = run.wait()
    # No child was left, so there was no descendant either and no need to look at all processes.
    assert (record["leftovers"], record["searched"]) == ([], False)


def test_killing_the_runner_kills_the_flow_process(fork_server: ForkServer) -> None:
    run = fork_server.python("import time\ndef main():\n    print('ready')\n    time.sleep(100)")
    run.wait_for_line("ready")
    flow_pid = wait_until(lambda: run.started)["flow_pid"]
    os.kill(run.pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{flow_pid}").exists())
    assert run.exit is None
    assert fork_server.receive("gone")["status"] == signal.SIGKILL


def test_use_of_time_and_memory_is_recorded(fork_server: ForkServer) -> None:
    code = "x = bytearray(60_000_000); import time; t = time.process_time()\nwhile time.process_time() < t + 0.2: pass"
    run = fork_server.command(sys.executable, "-c", code)
    record = run.wait()
    assert record["peak_memory_bytes"] > 60_000_000
    assert record["cpu_time_s"] > 0.2
    assert record["started_at"] < record["ended_at"]
