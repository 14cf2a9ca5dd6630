"""What every test relies on: default signals for what it starts, and the proof that nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.leftovers import VARIABLE, carriers, none_left

ROOT = Path(__file__).resolve().parents[2]
SIGNALS = [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM]

#: Ignore what `nohup` and `&` in a script ignore, raise it all the same, then start a process as a test does.
STARTED = f"""
import signal, subprocess
for number in {[int(number) for number in SIGNALS]}:
    signal.signal(number, signal.SIG_IGN)
import tests.conftest
for number in {[int(number) for number in SIGNALS]}:
    signal.raise_signal(number)
print(subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout)
"""


def test_a_started_process_has_default_signals_and_the_tests_survive_what_their_caller_ignores() -> None:
    done = subprocess.run([sys.executable, "-c", STARTED], cwd=ROOT, capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("SigIgn:")]
    ignored = int(line.split()[1], 16)
    assert [number.name for number in SIGNALS if ignored & 1 << (number - 1)] == []


def test_a_process_that_is_left_fails_the_test_by_name_and_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.leftovers._TIMEOUT_S", 0.2)
    with pytest.raises(AssertionError, match=r"processes left: \['\d+ sleep 1000 '\]"), none_left():
        process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        mark = os.environ[VARIABLE]
    assert process.wait(10) == -signal.SIGKILL
    assert carriers(mark) == []


def test_a_process_of_a_failed_test_is_killed() -> None:
    with pytest.raises(ZeroDivisionError), none_left():
        process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        raise ZeroDivisionError
    assert process.wait(10) == -signal.SIGKILL
