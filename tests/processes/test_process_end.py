"""The end of a command's process: quick, with all that the interpreter's own end would have brought out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

END = "from flowherd.cli.process_end import end\n"
#: More than a pipe holds.
MUCH = 300_000


def ended(code: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    argv = [sys.executable, "-c", END + code]
    return subprocess.run(argv, env=environ, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=20)


def test_exit_handlers_run_and_everything_printed_arrives() -> None:
    done = ended(f"import atexit; atexit.register(print, 'handler'); print('x' * {MUCH}); end(3)")
    assert (done.returncode, done.stdout, done.stderr) == (3, "x" * MUCH + "\nhandler\n", "")


def test_threads_that_go_on_are_waited_for() -> None:
    code = "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.1), print('done'))).start(); end(4)"
    done = ended(code)
    assert (done.returncode, done.stdout) == (4, "done\n")


def test_output_that_cannot_be_written_is_told_as_the_interpreter_tells_it() -> None:
    with Path("/dev/full").open("w") as full:
        done = ended("print('x'); end(0)", stdout=full.fileno())
    assert done.returncode == 120
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize("code", ["import sys; sys.stdout.close(); end(5)", "import sys; sys.stdout = None; end(5)"])
def test_a_missing_standard_output_is_no_error(code: str) -> None:
    assert ended(code).returncode == 5
