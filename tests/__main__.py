"""Run all checks with one command: format, lint, types, tests.

Each step runs even when an earlier one failed, so one run shows everything; the exit code is 0 only when all passed.
Failed tests are run a second time by themselves: many wait with a deadline for real processes, and a busy machine can
miss it. A test that passes the second time is named as unsteady and does not fail the run.

--quick   format, lint and the unit tests, in a few seconds; property tests try fewer examples.
--types   only the types, which take longer than all of --quick.
--full    everything, and each repetition that the usual run leaves out: every combination of scenario, version of
          Prefect and Python (tests with the marker `full`). It takes half an hour or more.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = sys.executable

STYLE = [
    ("format", [PYTHON, "-m", "ruff", "format", "--check", "."]),
    ("lint", [PYTHON, "-m", "ruff", "check", "."]),
]
TYPES = ("types", [PYTHON, "-m", "mypy", "supervisor", "runners"])
#: Before the tests, because installing takes longer than one test may.
ENVIRONMENTS = ("environments with the real Prefects", [PYTHON, "-m", "tests.peers.environments"])

#: Tests mostly wait for processes, so more run at once than there are processors (tests/scheduling.py).
_AT_ONCE = ["-n", "4"]
#: Without a record of failed tests (when nothing could be collected, say) the second run fails too.
_ONLY_FAILED = ["--verbose", "--last-failed", "--last-failed-no-failures", "none"]


def run(name: str, command: list[str]) -> bool:
    """Run one step and show what it prints; return whether it passed. It has no input, whatever the caller has."""
    print(f"== {name}: {' '.join(command[2:])}", flush=True)
    started_s = time.monotonic()
    passed = subprocess.run(command, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, check=False).returncode == 0
    print(f"== {name}: {'passed' if passed else 'FAILED'} in {time.monotonic() - started_s:.1f} s\n", flush=True)
    return passed


def environment() -> dict[str, str]:
    """Let Python keep what it compiles: the tests start thousands of interpreters, and rewrite their own assertions."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run_tests(arguments: list[str], at_once: list[str]) -> bool:
    """Run the tests, and those that failed once more, one at a time."""
    tests = [PYTHON, "-m", "pytest", "-q", *arguments]
    return run("tests", [*tests, *at_once]) or run("failed tests again, alone", [*tests, *_ONLY_FAILED])


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--quick", action="store_true", help="format, lint and unit tests")
    which.add_argument("--types", action="store_true", help="types alone")
    which.add_argument("--full", action="store_true", help="every combination, too")
    parser.add_argument("pytest", nargs="*", help="passed on to pytest, after --")
    options = parser.parse_args()
    steps = [TYPES] if options.types else STYLE if options.quick else [*STYLE, TYPES, ENVIRONMENTS]
    failed = [name for name, command in steps if not run(name, command)]
    if options.quick:
        passed = run_tests(["tests/unit", "--hypothesis-profile", "quick", *options.pytest], [])
    else:
        passed = options.types or run_tests([*(["--full"] if options.full else []), *options.pytest], _AT_ONCE)
    failed += [] if passed else ["tests"]
    print(f"failed: {', '.join(failed)}" if failed else "all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
