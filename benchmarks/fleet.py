"""A fleet at one Prefect 3 server on PostgreSQL: real runs on several agents, one killed and one drained meanwhile.

    python benchmarks/fleet.py [--runs 300] [--hosts 3] [--limit 4] [--programs] [--restarts]

    runs/s        of all hosts together, from the first creation until all have ended and are delivered
    spread        runs by agent; the second agent is drained when half of the runs have started, the first one killed
                  by SIGKILL when a quarter have, and started again
    adoption      from the kill until the next agent has found the runs that go on; most of it is the agent's start
    lost, doubled runs that never started, or started more than once; lines of their logs likewise
    irregular     runs that were not once each Scheduled, Pending, Running and Completed

`--programs` uses a small program instead of flows of Prefect's engine. `--restarts` restarts server and database when
three quarters have started. The hosts are home directories on this machine, so all share its processors.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.peers.postgres import Postgres, running_postgres
from tests.peers.prefect3.fleet import Fleet, running_fleet
from tests.peers.prefect3.prefect_server import PrefectServer, running_prefect
from tests.support.processes import give_children_default_signals
from tests.support.waiting import wait_until

DEADLINE_S = 1800.0
ADOPTED = "Found a run of an earlier agent: alive"
DISTURBANCES_AT = (0.25, 0.5, 0.75)


def disturb(fleet: Fleet, postgres: Postgres, server: PrefectServer, runs: int, restarts: bool) -> None:
    """Kill one agent, drain another and restart the server, while the runs go on."""
    victim, other = fleet.hosts[:2]
    at_ = [round(share * runs) for share in DISTURBANCES_AT]
    wait_until(lambda: len(fleet.starts()) >= at_[0] and victim.going(), timeout_s=DEADLINE_S, what=fleet.story)
    killed_s = time.monotonic()
    victim.kill()
    left = victim.going()
    victim.start()
    print(f"adoption: {time.monotonic() - killed_s:.1f} s, {victim.text.count(ADOPTED)} of {len(left)} still going")
    wait_until(lambda: len(fleet.starts()) >= at_[1], timeout_s=DEADLINE_S, what=fleet.story)
    other.drain()
    print(f"drained:  exit code {other.exit_code(DEADLINE_S)}, {len(other.directories())} runs left there")
    if restarts:
        wait_until(lambda: len(fleet.starts()) >= at_[2], timeout_s=DEADLINE_S, what=fleet.story)
        restart(postgres, server)


def restart(postgres: Postgres, server: PrefectServer) -> None:
    """Restart the database under the server, then the server."""
    began_s = time.monotonic()
    postgres.stop()
    postgres.start()
    back_s = time.monotonic() - began_s
    server.stop()
    server.start()
    print(f"restarts: database away {back_s:.1f} s, then the server {time.monotonic() - began_s - back_s:.1f} s")


def report(fleet: Fleet, took_s: float) -> bool:
    """Print the figures; return whether each run and line was there once."""
    account = fleet.account()
    starts = [at_ for _, _, at_ in fleet.starts()]
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    print(f"runs/s:   {account.runs / took_s:.2f}  ({account.runs} in {took_s:.1f} s)")
    print(f"spread:   {dict(sorted(account.spread.items()))}")
    print(f"lost:     {len(account.lost)}    doubled: {len(account.doubled)}    irregular: {len(account.irregular)}")
    print(f"lines:    {account.lines}, lost {len(account.lines_lost)}, doubled {len(account.lines_doubled)}")
    print(f"gaps:     longest {max(gaps):.1f} s without a start, median {statistics.median(gaps):.2f} s")
    for run_id, states in account.irregular.items():
        print(f"          {run_id} {' '.join(states)}")
    bad = account.lost, account.doubled, account.lines_lost, account.lines_doubled
    return not any(bad)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--hosts", type=int, default=3)
    parser.add_argument("--limit", type=int, default=4, help="runs at the same time on each host")
    parser.add_argument("--seconds", type=float, default=0.3, help="that each run works")
    parser.add_argument("--programs", action="store_true", help="runs without Prefect's engine")
    parser.add_argument("--restarts", action="store_true", help="restart server and database, too")
    options = parser.parse_args()
    give_children_default_signals()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flowherd-fleet-")))
        (directory / "runs").mkdir()
        postgres = stack.enter_context(running_postgres())
        variables = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": postgres.url}
        server = stack.enter_context(running_prefect(directory / "server", variables))
        fleet = stack.enter_context(running_fleet(server, directory / "runs", options.hosts, options.limit))
        began_s = time.monotonic()
        fleet.create(options.runs, engine=not options.programs, seconds=options.seconds)
        disturb(fleet, postgres, server, options.runs, options.restarts)
        fleet.wait_for_ends(DEADLINE_S)
        return 0 if report(fleet, time.monotonic() - began_s) else 1


if __name__ == "__main__":
    sys.exit(main())
