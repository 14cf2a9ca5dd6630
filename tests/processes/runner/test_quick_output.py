"""Lines that a run prints quickly go through shared memory: every line once, in order, however the run goes on.

Each program says at its end whether a segment was in use, so that no test passes without one.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from flowherd_runner.contract.journal import STREAM_STDERR
from tests.support.runner import ForkServer, Run

PRELUDE = """
import logging, os, signal, subprocess, sys, threading, time
used = False
def many(name, count=4000):
    global used
    for i in range(count):
        print("%s %d" % (name, i))
        used = used or "write" in vars(sys.stdout.buffer)
def say_used():
    os.write(2, b"used\\n" if used else b"not used\\n")
"""


def _many(name: str, count: int = 4000) -> list[str]:
    return [f"{name} {i}" for i in range(count)]


def _short(line: str) -> str:
    return line[:4] if line.startswith("x") else line.partition(",")[0]


def _was_used(run: Run) -> bool:
    return [record.payload for record in run.records() if record.stream == STREAM_STDERR][-1] == b"used"


def test_what_other_code_can_see_keeps_its_order(fork_server: ForkServer, tmp_path: Path) -> None:
    run = fork_server.python(
        PRELUDE
        + f"""
def main():
    many("a")
    logging.warning("a record")
    many("b")
    subprocess.run(["echo", "a child"])
    many("c")
    if os.fork() == 0:
        many("in the child", 10)
        os._exit(0)
    os.wait()
    many("d")
    sys.stdout.flush()
    os.write(1, b"flushed before\\n")
    many("e")
    kept = os.dup(1)
    sys.stdout.flush()
    os.dup2(os.open({str(tmp_path / "elsewhere")!r}, os.O_WRONLY | os.O_CREAT), 1)
    many("elsewhere")
    os.dup2(kept, 1)
    print("x" * 300_000)
    many("f")
    say_used()
"""
    )
    assert run.wait()["exit_code"] == 0
    parts = [_many("a"), ["a record"], _many("b"), ["a child"], _many("c"), _many("in the child", 10), _many("d")]
    parts += [["flushed before"], _many("e"), ["xxxx", "the line above was too long"], _many("f")]
    assert [_short(line) for line in run.lines() if "used" not in line] == [line for part in parts for line in part]
    assert (tmp_path / "elsewhere").read_text().splitlines() == _many("elsewhere")
    assert _was_used(run)


def test_nothing_is_lost_when_the_process_is_killed(fork_server: ForkServer) -> None:
    run = fork_server.python(
        PRELUDE
        + """
def main():
    many("a")
    say_used()
    many("b", 2000)
    print("zeros \\0 within \\0")
    print("last")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    assert run.wait()["signal"] == 9
    printed = [*_many("a"), *_many("b", 2000), "zeros \0 within \0", "last"]
    assert [line for line in run.lines() if "used" not in line] == printed
    assert _was_used(run)


def test_lines_arrive_while_the_process_pauses_and_after_a_long_pause(fork_server: ForkServer) -> None:
    run = fork_server.python(
        PRELUDE
        + """
def main():
    signals = {signal.SIGUSR1, signal.SIGUSR2}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    many("a")
    say_used()
    signal.sigwait(signals)
    flags = sys.stdout.buffer._segments.flags
    while "write" in vars(sys.stdout.buffer) and not flags[4]:  # until the runner has stopped looking
        time.sleep(0.01)
    print("after the pause")
    signal.sigwait(signals)
    many("b")
"""
    )
    run.wait_for_line("a 3999")
    assert run.started is not None
    os.kill(run.started["flow_pid"], signal.SIGUSR1)
    run.wait_for_line("after the pause")
    os.kill(run.started["flow_pid"], signal.SIGUSR2)
    assert run.wait()["exit_code"] == 0
    assert run.lines("stdout") == [*_many("a"), "after the pause", *_many("b")]
    assert _was_used(run)


def test_threads_lose_and_mix_no_lines(fork_server: ForkServer) -> None:
    run = fork_server.python(
        PRELUDE
        + """
def main():
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=many, args=("thread %d" % k,)) for k in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    say_used()
"""
    )
    assert run.wait()["exit_code"] == 0
    lines = run.lines("stdout")
    assert len(lines) == 16_000
    for k in range(4):
        name = f"thread {k}"
        assert [line for line in lines if line.startswith(name)] == _many(name)
    assert _was_used(run)


def test_what_a_thread_has_flushed_is_there_although_another_has_written_a_line(fork_server: ForkServer) -> None:
    run = fork_server.python(
        PRELUDE
        + """
def main():
    many("a")
    say_used()
    thread = threading.Thread(target=sys.stdout.buffer.write, args=(b"of the thread\\n",))
    thread.start()
    thread.join()
    sys.stdout.flush()
    os.write(1, b"flushed before\\n")
"""
    )
    assert run.wait()["exit_code"] == 0
    assert run.lines("stdout") == [*_many("a"), "of the thread", "flushed before"]
    assert _was_used(run)
