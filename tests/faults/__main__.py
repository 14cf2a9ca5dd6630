"""The long session: `python -m tests.faults --minutes 30`. The exit code is 1 when a promise was broken.

The seed is printed first; `--seed` repeats the plan (which processes are hit also depends on the machine's speed).
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

from flowherd_runner.contract.isolation import LEVELS
from tests.faults.backends import BackendUnderTest
from tests.faults.backends.embedded import Embedded, EmbeddedCrowd
from tests.faults.backends.prefect3 import Prefect3
from tests.faults.driver import perform
from tests.faults.plan import faults
from tests.support.processes import give_children_default_signals

_BACKENDS: dict[str, type[BackendUnderTest]] = {"embedded": Embedded, "crowd": EmbeddedCrowd, "prefect3": Prefect3}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long faults are injected (default: 30)")
    parser.add_argument("--seed", type=int, help="which plan to carry out (default: a new one)")
    parser.add_argument("--agents", type=int, default=2, help="agents that compete for the runs (default: 2)")
    parser.add_argument(
        "--backend",
        choices=_BACKENDS,
        default="embedded",
        help="the backend of the agents; crowd: the embedded one with 500 runs at once",
    )
    parser.add_argument(
        "--levels",
        nargs="+",
        choices=LEVELS,
        default=["none"],
        help="levels of isolation of the runs, of which each has one (default: none; not with prefect3)",
    )
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    parser.add_argument("--plan", action="store_true", help="only print what the seed would do")
    parser.add_argument("--keep", action="store_true", help="keep the session's directory in any case")
    options = parser.parse_args()
    give_children_default_signals()
    seed = random.SystemRandom().randrange(10**9) if options.seed is None else options.seed
    print(f"seed {seed}", file=sys.stderr, flush=True)
    backend = _BACKENDS[options.backend]
    if options.plan:
        for fault in faults(seed, options.minutes, backend.rates):
            print(fault)
        return 0
    base = Path(tempfile.mkdtemp(prefix="flowherd-faults-"))
    report = perform(base, seed, options.minutes, options.agents, backend, options.levels)
    print(report.as_json() if options.json else report.as_text())
    if report.violations or options.keep:
        print(f"logs and files are kept in {base}", file=sys.stderr)
    else:
        shutil.rmtree(base)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
