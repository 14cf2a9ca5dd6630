"""Run all checks with one command: format, lint, types, tests.

Each step runs even when an earlier one failed, so one run shows everything; the exit code is 0 only when all passed.
Failed tests are run a second time by themselves: many wait with a deadline for real processes, and a busy machine can
miss it. A test that passes the second time is named as unsteady and does not fail the run. What runs beside the other
checks has its second run at the end, too.

--quick   format, lint and the unit tests, in a few seconds; property tests try fewer examples.
--types   only the types, which take longer than all of --quick.
--full    everything, and each repetition that the usual run leaves out: every combination of scenario, version of
          Prefect and Python (tests with the marker `full`), and all unit tests and the demo with the lowest and the
          newest versions of what is required, on each Python. It takes three quarters of an hour or more.
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
# All beside the other checks and before the tests, because installing takes longer than one test may.
ENVIRONMENTS = ("environments with the real Prefects", [PYTHON, "-m", "tests.peers.environments"])
SITE = ("environment for the site", [PYTHON, "-m", "tests.support.docs_site"])
LOWEST = ("lowest versions of what is required", [PYTHON, "-m", "tests.lowest_versions"])
LOWEST_EVERYWHERE = (LOWEST[0], [*LOWEST[1], "--full"])

#: Tests mostly wait for processes, so more run at once than there are processors (tests/scheduling.py).
_AT_ONCE = ["-n", "4"]
#: Fewer examples, no search through all garbage at the end for errors that nobody saw, which takes half a second, and
#: no record of log messages for each phase of each test. Nor what no unit test uses and what looks at each of them.
_WITHOUT = ("unraisableexception", "logging", "anyio", "doctest", "junitxml", "setuponly", "stepwise", "subtests")
_QUICKLY = ["--hypothesis-profile", "quick", *(part for name in _WITHOUT for part in ("-p", f"no:{name}"))]
#: Without a record of failed tests (when nothing could be collected, say) the second run fails too.
_ONLY_FAILED = ["--verbose", "--last-failed", "--last-failed-no-failures", "none"]


class Step:
    """One step, from its start on. It has no input, whatever the caller has."""

    def __init__(self, name: str, command: list[str], *, in_background: bool = False) -> None:
        self._name = name
        self._started_s = time.monotonic()
        self._header = f"== {name}: {' '.join(command[2:])}"
        if not in_background:
            print(self._header, flush=True)
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if in_background else None,
            stderr=subprocess.STDOUT if in_background else None,
        )

    def passed(self) -> bool:
        """Wait for the end; return whether the step passed."""
        output, _ = self._process.communicate()
        if output is not None:  # of a step in the background
            print(self._header, output.decode(errors="replace"), sep="\n", end="")
        passed = self._process.returncode == 0
        took_s = time.monotonic() - self._started_s
        print(f"== {self._name}: {'passed' if passed else 'FAILED'} in {took_s:.1f} s\n", flush=True)
        return passed


def environment() -> dict[str, str]:
    """Let Python keep what it compiles: the tests start thousands of interpreters, and rewrite their own assertions."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run_tests(arguments: list[str], at_once: list[str]) -> bool:
    """Run the tests, and those that failed once more, one at a time."""
    pytest = [PYTHON, "-m", "pytest", "-q"]
    return (
        Step("tests", [*pytest, *at_once, *arguments]).passed()
        or Step("failed tests again, alone", [*pytest, *arguments, "-n", "0", *_ONLY_FAILED]).passed()
    )


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
    whole = not (options.quick or options.types)
    beside = [ENVIRONMENTS, SITE, LOWEST_EVERYWHERE if options.full else LOWEST] if whole else []
    background = [(name, Step(name, command, in_background=True)) for name, command in beside]
    steps = [TYPES] if options.types else STYLE if options.quick else [*STYLE, TYPES]
    failed = [name for name, command in steps if not Step(name, command).passed()]
    failed_beside = [name for name, step in background if not step.passed()]
    if options.quick:
        passed = run_tests(["tests/unit", *_QUICKLY, *options.pytest], [])
    else:
        passed = options.types or run_tests([*(["--full"] if options.full else []), *options.pytest], _AT_ONCE)
    failed += [] if passed else ["tests"]
    for name, command in beside:
        if name in failed_beside and not Step(f"{name} again, alone", command).passed():
            failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
