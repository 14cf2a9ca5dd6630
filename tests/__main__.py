"""All checks with one command: format, lint, types of both roots, tests. `python -m tests --help` tells the options.

Each step runs even when one before it failed, so one run shows everything; the exit code is 0 only when all passed.
Tests that fail are run a second time by themselves, for many wait with a deadline for real processes, and a busy
machine can keep those waiting: one that passes then is named as unsteady, one that fails again has failed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = sys.executable

STATIC = [
    ("format", [PYTHON, "-m", "ruff", "format", "--check", "."]),
    ("lint", [PYTHON, "-m", "ruff", "check", "."]),
    ("types", [PYTHON, "-m", "mypy", "supervisor", "runners"]),
]
#: Before the tests, for installing takes longer than one test may.
ENVIRONMENTS = ("environments with the real Prefects", [PYTHON, "-m", "tests.peers.environments"])


#: Tests mostly wait for processes. A file stays with one worker, so a module's server is started once; in the order of
#: tests/conftest.py, longest first, not by the number of their tests.
_SEVERAL_AT_ONCE = ["-n", "logical", "--maxprocesses", "4", "--dist", "loadfile", "--no-loadscope-reorder"]
#: Without a record of failed tests (nothing was collected, say) there is nothing to try again, and that is a failure.
_ONLY_FAILED = ["--verbose", "--last-failed-no-failures", "none"]


def run(name: str, command: list[str]) -> bool:
    """Run one step in the open; whether it passed."""
    print(f"== {name}: {' '.join(command[2:])}", flush=True)
    started_s = time.monotonic()
    passed = subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    print(f"== {name}: {'passed' if passed else 'FAILED'} in {time.monotonic() - started_s:.1f} s\n", flush=True)
    return passed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only the unit tests, a few seconds")
    parser.add_argument("pytest", nargs="*", help="passed on to pytest, after --")
    options = parser.parse_args()
    selection = ["tests/unit"] if options.quick else []
    tests = [PYTHON, "-m", "pytest", "-q", *selection, *options.pytest]
    steps = STATIC if options.quick else [*STATIC, ENVIRONMENTS]
    failed = [name for name, command in steps if not run(name, command)]
    again = [*tests, "--last-failed", *_ONLY_FAILED]
    if not run("tests", [*tests, *_SEVERAL_AT_ONCE]) and not run("failed tests again, alone", again):
        failed.append("tests")
    print(f"failed: {', '.join(failed)}" if failed else "all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
