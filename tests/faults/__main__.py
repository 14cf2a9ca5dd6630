"""The long run: `python -m tests.faults --minutes 30`. Exit code 1 when a promise was broken.

The seed is printed first; `--seed` plays the same plan again (who is hit also depends on how fast the machine is).
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.faults.driver import perform
from tests.faults.plan import faults
from tests.faults.sides import Side
from tests.faults.sides.embedded import Embedded
from tests.faults.sides.prefect3 import Prefect3

_SIDES: dict[str, type[Side]] = {"embedded": Embedded, "prefect3": Prefect3}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long faults are injected (default: 30)")
    parser.add_argument("--seed", type=int, help="which plan to play (default: a new one)")
    parser.add_argument("--agents", type=int, default=2, help="agents that compete for the runs (default: 2)")
    parser.add_argument("--backend", choices=_SIDES, default="embedded", help="what the agents work for")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    parser.add_argument("--plan", action="store_true", help="only print what the seed would do")
    parser.add_argument("--keep", action="store_true", help="keep the directory of the session in any case")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**9) if options.seed is None else options.seed
    print(f"seed {seed}", file=sys.stderr, flush=True)
    side = _SIDES[options.backend]
    if options.plan:
        for fault in faults(seed, options.minutes, side.pace):
            print(fault)
        return 0
    base = Path(tempfile.mkdtemp(prefix="flowherd-faults-"))
    report = perform(base, seed, options.minutes, options.agents, side)
    print(report.as_json() if options.json else report.as_text())
    if report.violations or options.keep:
        print(f"logs and files are kept in {base}", file=sys.stderr)
    else:
        shutil.rmtree(base)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
