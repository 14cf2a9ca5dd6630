"""The core of a run, under every interpreter that is installed here."""

from __future__ import annotations

import signal
import sys

from tests.support.runner import BOOT, ForkServer
from tests.support.waiting import wait_until

ALL_CHANNELS = """
import asyncio, logging, multiprocessing, os, sys, threading

def child(number):
    print("child %d" % number)

def main(count, name):
    for i in range(count):
        print("out %d" % i)
        logging.info("log %d", i)
        print("err %d" % i, file=sys.stderr)
        logging.getLogger("x.y").warning("warn %d", i)
    process = multiprocessing.get_context("fork").Process(target=child, args=(7,))
    process.start()
    process.join()
    threading.Thread(target=print, args=("thread " + name,)).start()

async def coroutine():
    await asyncio.sleep(0)
    print("awaited")
    raise LookupError("gone \\u20ac")
"""


def test_all_output_of_a_callable_arrives_in_order(any_fork_server: ForkServer) -> None:
    run = any_fork_server.python(ALL_CHANNELS, parameters={"count": 50, "name": "\u00e9"})
    assert run.wait()["reason"] == "exited"
    expected = [f"{word} {i}" for i in range(50) for word in ("out", "log", "err", "warn")]
    assert run.lines() == [*expected, "child 7", "thread \u00e9"]


def test_a_coroutine_function_is_awaited_and_its_exception_reported(any_fork_server: ForkServer) -> None:
    run = any_fork_server.python(ALL_CHANNELS, "coroutine")
    record = run.wait()
    assert (record["reason"], record["exit_code"]) == ("exception", 1)
    assert record["exception"] == {"type": "LookupError", "message": "gone \u20ac"}
    awaited, traceback = run.lines()
    assert awaited == "awaited"
    assert traceback.startswith("Traceback (most recent call last):\n")
    assert traceback.endswith("LookupError: gone \u20ac")
    assert "flowherd_runner" not in traceback


def test_a_command_runs_with_its_parameters(any_fork_server: ForkServer) -> None:
    code = "import os, sys; print(sys.argv[1:], os.environ['FLOWHERD_PARAM_n']); sys.exit(3)"
    run = any_fork_server.command(any_fork_server.interpreter, "-c", code, "{n}-{x}", parameters={"n": 4})
    record = run.wait()
    assert (record["reason"], record["exit_code"], record["lines"]) == ("exited", 3, 1)
    assert run.lines() == ["['4-{x}'] 4"]
    assert any_fork_server.receive("gone") == {"op": "gone", "pid": run.pid, "status": 0}


def test_a_run_is_stopped_with_everything_that_it_started(any_fork_server: ForkServer) -> None:
    run = any_fork_server.command(
        "sh", "-c", "setsid sh -c 'echo a; exec sleep 99' & (setsid sh -c 'echo b; exec sleep 99' &); wait"
    )
    wait_until(lambda: sorted(run.lines()) == ["a", "b"])
    run.stop(detail="by anna")
    record = run.wait()
    assert (record["reason"], record["signal"], record["detail"]) == ("cancelled", signal.SIGTERM, "by anna")
    assert record["leftovers_count"] == 2


def test_a_killed_flow_process_is_recorded_as_killed(any_fork_server: ForkServer) -> None:
    run = any_fork_server.python("import os, signal\ndef main(): os.kill(os.getpid(), signal.SIGKILL)")
    record = run.wait()
    assert (record["reason"], record["signal"], record["exit_code"]) == ("signal", signal.SIGKILL, None)
    assert record["evidence"] == "wait status: killed by SIGKILL (9); flowherd did not send it"


def test_a_run_outlives_its_fork_server(any_fork_server: ForkServer) -> None:
    run = any_fork_server.command("sh", "-c", "echo ready; while [ ! -e go ]; do sleep 0.01; done; echo done")
    run.wait_for_line("ready")
    any_fork_server.close()
    (run.directory / "work" / "go").touch()
    assert run.wait()["exit_code"] == 0
    assert run.lines() == ["ready", "done"]


def test_neither_the_package_nor_its_neighbours_are_on_the_path(any_fork_server: ForkServer) -> None:
    run = any_fork_server.python(
        "import os, sys\ndef main(): print(*(os.path.abspath(p) for p in sys.path), sep='\\n')"
    )
    assert run.wait()["reason"] == "exited"
    outside = any_fork_server.interpreter != sys.executable  # flowherd itself may be installed in this one
    assert str(BOOT.parent) not in run.lines()
    assert not outside or str(BOOT.parent.parent) not in run.lines()
