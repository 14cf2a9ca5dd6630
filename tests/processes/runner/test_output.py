"""The output of a run: every line and every record once, in order, for all that a run prints and a disk does."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flowherd_runner.contract.files import JOURNAL_FILE
from flowherd_runner.contract.journal import STREAM_LOG, STREAM_STDERR, STREAM_STDOUT
from flowherd_runner.contract.variables import AGENT_SECRETS_VARIABLE
from tests.support.runner import ForkServer

INTERLEAVED = """
import logging, sys
def main():
    for i in range(500):
        print("out %d" % i)
        logging.info("log %d", i)
        print("err %d" % i, file=sys.stderr)
        logging.warning("warn %d", i)
"""


def test_prints_and_records_keep_their_order_over_2000_lines(fork_server: ForkServer) -> None:
    run = fork_server.python(INTERLEAVED)
    run.wait()
    assert run.lines() == [f"{word} {i}" for i in range(500) for word in ("out", "log", "err", "warn")]


def test_times_increase_strictly(fork_server: ForkServer) -> None:
    run = fork_server.python(INTERLEAVED)
    run.wait()
    times = [record.time_ns for record in run.records()]
    assert all(later - earlier >= 1000 for earlier, later in itertools.pairwise(times))


def test_a_record_carries_level_logger_and_traceback(fork_server: ForkServer) -> None:
    code = """
import logging
def main():
    try:
        1 / 0
    except ZeroDivisionError:
        logging.getLogger("a.b").exception("failed with %s", "x")
    logging.getLogger("a.b").debug("below the level")
    logging.getLogger("a.b").info("bad %d", "arguments")
"""
    run = fork_server.python(code)
    assert run.wait()["reason"] == "exited"
    [record] = [record for record in run.records() if record.stream == STREAM_LOG]
    assert record.level == 40
    assert b'"logger": "a.b"' in record.payload
    message = run.lines("log")[0]
    assert message.startswith("failed with x\nTraceback (most recent call last):\n")
    assert message.endswith("ZeroDivisionError: division by zero")
    assert "--- Logging error ---" in run.lines("stderr")


def test_the_log_level_can_be_set(fork_server: ForkServer) -> None:
    run = fork_server.python("import logging\ndef main(): logging.debug('deep')", log_level=10)
    run.wait()
    assert run.lines() == ["deep"]


def test_threads_and_signal_handlers_that_log_lose_nothing_and_wait_for_nothing(fork_server: ForkServer) -> None:
    code = """
import logging, signal, threading
def work(k):
    for i in range(200):
        print("p%d %d" % (k, i))
        logging.info("l%d %d", k, i)
def main():
    def alarm(*_):
        logging.info("alarm")
        if any(t.is_alive() for t in threads):  # not by itself: on a busy host, handlers would pile up
            signal.setitimer(signal.ITIMER_REAL, 0.02)
    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    signal.signal(signal.SIGALRM, alarm)
    [t.start() for t in threads]
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    work(9)
    [t.join() for t in threads]
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
"""
    run = fork_server.python(code)
    assert run.wait(timeout_s=10)["exit_code"] == 0
    lines = run.lines()
    for k in (0, 1, 2, 3, 9):
        own = [line for line in lines if line[1:].startswith(f"{k} ")]
        assert own == [f"{word}{k} {i}" for i in range(200) for word in "pl"]
    assert len(lines) == 2000 + lines.count("alarm")


def test_output_redirected_by_the_run_gets_no_markers(fork_server: ForkServer, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    code = f"""
import logging, os
def main():
    print("before")
    os.dup2(os.open({str(target)!r}, os.O_WRONLY | os.O_CREAT), 1)
    logging.info("record")
    print("after")
"""
    run = fork_server.python(code)
    run.wait()
    assert run.lines() == ["before", "record"]
    assert target.read_text() == "after\n"


def test_output_after_stdout_is_closed_does_no_harm(fork_server: ForkServer) -> None:
    code = """
import logging, os, sys
def main():
    print("before")
    os.close(1)
    logging.info("record")
    print("on stderr", file=sys.stderr)
"""
    run = fork_server.python(code)
    record = run.wait()
    assert record["exit_code"] == 0
    assert run.lines() == ["before", "record", "on stderr"]


def test_a_run_that_closes_every_descriptor_is_not_disturbed(fork_server: ForkServer, tmp_path: Path) -> None:
    code = f"""
import logging, os
def main():
    print("before")
    os.closerange(3, 200)
    files = [open({str(tmp_path)!r} + "/file%d" % i, "w") for i in range(20)]
    logging.info("a record")
"""
    run = fork_server.python(code)
    assert run.wait()["exit_code"] == 0
    assert run.lines("stdout", "log") == ["before"]
    assert run.lines("stderr") == ["a record"]
    assert all((tmp_path / f"file{i}").read_bytes() == b"" for i in range(20))


def test_the_last_line_needs_no_newline_and_bytes_are_kept(fork_server: ForkServer) -> None:
    run = fork_server.command(
        sys.executable, "-c", "import os; os.write(1, bytes(range(256))); os.write(2, b'a\\r\\nb')"
    )
    run.wait()
    payloads = {stream: [r.payload for r in run.records() if r.stream == stream] for stream in (1, 2)}
    first, second = bytes(range(256)).split(b"\n")
    second = second.partition(b"\r")[2]  # a carriage return begins the line anew
    assert payloads == {STREAM_STDOUT: [first, second], STREAM_STDERR: [b"a", b"b"]}


def test_a_line_of_10_megabytes_is_cut_with_one_notice(fork_server: ForkServer) -> None:
    code = "import sys; sys.stdout.write('x' * 9_000_000 + 'y' * 1_000_000 + '\\nend\\n')"
    run = fork_server.command(sys.executable, "-c", code, max_line_bytes=100_000)
    record = run.wait()
    assert (record["lines"], record["lines_cut"]) == (2, 1)
    kept = "x" * 75_000 + " [...] " + "y" * 25_000
    assert run.lines() == [kept, "the line above was too long, 9900000 bytes of it were left out", "end"]


def test_a_record_too_large_for_the_channel_is_whole_on_stderr(fork_server: ForkServer) -> None:
    code = "import logging\ndef main():\n    logging.info('\\n'.join(['x' * 99] * 10000))\n    print('end')"
    run = fork_server.python(code)
    run.wait()
    assert run.lines("stderr") == ["x" * 99] * 10_000
    assert run.lines("stdout", "log") == ["end"]


def test_a_flood_of_200_000_lines_arrives_whole(fork_server: ForkServer) -> None:
    run = fork_server.command("seq", "200000")
    assert run.wait()["lines"] == 200_000
    assert run.lines() == [str(number) for number in range(1, 200_001)]


def test_a_full_journal_has_a_notice_and_counts_what_was_left_out(fork_server: ForkServer) -> None:
    run = fork_server.command("seq", "20000", max_journal_bytes=100_000)
    record = run.wait()
    lines = run.lines()
    kept = record["lines"]
    assert record["lines_dropped"] == 20_000 - kept > 0
    assert lines == [
        *map(str, range(1, kept + 1)),
        "the log has reached its limit of 100000 bytes; later lines are left out",
        f"{20_000 - kept} lines came after the log was full and were left out",
    ]
    assert (run.directory / JOURNAL_FILE).stat().st_size <= 100_000


def test_secrets_reach_neither_journal_nor_exit_record(fork_server: ForkServer) -> None:
    code = """
import logging, os, sys
def main(token):
    print("out", os.environ["SECRET"], os.environ["HIDDEN"])
    print("err", token, file=sys.stderr)
    logging.info("log %s", token)
    raise ValueError("raised " + token)
"""
    secret = 'hunter"2\u20ac2'
    env = {"SECRET": secret, "SHORT": "out", "HIDDEN": "declared-one"}
    run = fork_server.python(code, parameters={"token": secret}, env=env, masked_env=["HIDDEN", "SHORT", "UNSET"])
    record = run.wait()
    assert record["exception"] == {"type": "ValueError", "message": "raised ***"}
    assert secret not in str(record)
    assert run.lines("flowherd") == ["values of these are replaced by *** in this log: HIDDEN, SECRET, token"]
    assert run.lines("stdout", "stderr", "log")[:3] == ["out *** ***", "err ***", "log ***"]
    assert run.lines("log")[-1].endswith("ValueError: raised ***")
    journal = (run.directory / JOURNAL_FILE).read_bytes()
    assert b"hunter" not in journal


@pytest.mark.parametrize("by", ["descriptor", "environment"])
def test_inherited_secrets_and_those_of_the_agent_are_masked_and_no_run_sees_the_agents(
    start_fork_server: Callable[..., ForkServer], by: str
) -> None:
    """An agent of 0.1.0 whose files were replaced while it runs hands its credentials over by the environment."""
    env, secrets = {"INHERITED_PASSWORD": "inherited-hunter2"}, ["agents-own-token"]
    if by == "environment":
        env, secrets = {**env, AGENT_SECRETS_VARIABLE: json.dumps(secrets)}, []
    server = start_fork_server(env=env, secrets=secrets)
    code = "import os\ndef main(): print(os.environ['INHERITED_PASSWORD'], 'agents-own-token', sorted(os.environ))"
    script = "echo $INHERITED_PASSWORD agents-own-token $(env | cut -d= -f1)"
    for run in (server.python(code), server.command("sh", "-c", script)):
        run.wait()
        [line] = run.lines("stdout")
        assert line.startswith("*** *** ") and "INHERITED_PASSWORD" in line
        assert AGENT_SECRETS_VARIABLE not in line
        assert run.lines("flowherd")[0].endswith("INHERITED_PASSWORD, the agent's own credentials")


def test_long_records_and_messages_are_cut_within_no_secret(fork_server: ForkServer) -> None:
    code = """
import logging
def main(token):
    logging.info("%s", (" " * 7 + token) * 10_000)
    raise ValueError((" " * 7 + token) * 1000)
"""
    for size in (12, 13, 14, 15, 16, 17):
        token = "hunter22-and-more-of-it"[:size]
        run = fork_server.python(code, parameters={"token": token})
        record = run.wait()
        # A record that is too long for its channel is printed, and shortened like every long line.
        [printed] = [line for line in run.lines("stderr") if line.startswith(" " * 7)]
        assert " [...] " in printed
        for text in (*printed.split(" [...] "), record["exception"]["message"]):
            first, *words, last = text.split()
            assert set(words) == {"***"}
            # Up to three characters say nothing, and ordinary words begin like many a secret.
            assert all(end == "***" or (len(end) < 4 and end in token) for end in (first, last))


# Text so far.
