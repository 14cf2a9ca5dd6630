"""A fleet at one Prefect 3 server on PostgreSQL: many real runs on several agents, one killed, one drained meanwhile.

    python benchmarks/fleet.py [--runs 300] [--hosts 3] [--limit 4] [--programs] [--restarts]

    runs/s        from the first run being asked for until all have ended and are told, by all hosts together
    spread        runs by agent; the second agent is drained when half of the runs have started, the first one killed
                  by SIGKILL when a quarter have, and started again
    adoption      from the kill until the next agent has found the runs that went on; most of it is its own start
    lost, doubled runs that never started, and that started more than once; their lines of log likewise
    irregular     runs whose states are not one each of Scheduled, Pending, Running, Completed

`--programs` has the runs be a small program instead of flows of Prefect's engine. `--restarts` restarts the server and
the database too, when three quarters have started. The hosts are homes on this machine, so all share its processors.
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

from tests.peers.prefect3.prefect_server import PrefectServer, running_prefect
from tests.peers.prefect3.fleet import Fleet, running_fleet
from tests.peers.postgres import Postgres, running_postgres
from tests.support.waiting import wait_until

DEADLINE_S = 1800.0
ADOPTED = "Found a run of an earlier agent: alive"
DISTURBANCES_AT = (0.25, 0.5, 0.75)


def disturb(fleet: Fleet, postgres: Postgres, server: PrefectServer, runs: int, restarts: bool) -> None:
    """What happens while the runs go."""
    victim, other = fleet.hosts[:2]
    at_ = [round(share * runs) for share in DISTURBANCES_AT]
    wait_until(lambda: len(fleet.starts()) >= at_[0] and victim.going(), timeout_s=DEADLINE_S, what=fleet.story)
    killed_s = time.monotonic()
    victim.kill()
    left = victim.going()
    victim.start()
    print(f"adoption: {time.monotonic() - killed_s:.1f} s, {victim.said.count(ADOPTED)} of {len(left)} still going")
    wait_until(lambda: len(fleet.starts()) >= at_[1], timeout_s=DEADLINE_S, what=fleet.story)
    other.drain()
    print(f"drained:  exit code {other.exit_code(DEADLINE_S)}, {len(other.directories())} runs left there")
    if restarts:
        wait_until(lambda: len(fleet.starts()) >= at_[2], timeout_s=DEADLINE_S, what=fleet.story)
        restart(postgres, server)


def restart(postgres: Postgres, server: PrefectServer) -> None:
    """The database under the server, then the server."""
    began_s = time.monotonic()
    postgres.stop()
    postgres.start()
    back_s = time.monotonic() - began_s
    server.stop()
    server.start()
    print(f"restarts: database away {back_s:.1f} s, then the server {time.monotonic() - began_s - back_s:.1f} s")


def report(fleet: Fleet, took_s: float) -> bool:
    """Print the figures; whether each run and line was there once."""
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
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flowherd-fleet-")))
        (place / "runs").mkdir()
        postgres = stack.enter_context(running_postgres())
        variables = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": postgres.url}
        server = stack.enter_context(running_prefect(place / "server", **variables))
        fleet = stack.enter_context(running_fleet(server, place / "runs", options.hosts, options.limit))
        began_s = time.monotonic()
        fleet.ask_for(options.runs, engine=not options.programs, seconds=options.seconds)
        disturb(fleet, postgres, server, options.runs, options.restarts)
        fleet.wait_for_ends(DEADLINE_S)
        return 0 if report(fleet, time.monotonic() - began_s) else 1


if __name__ == "__main__":
    sys.exit(main())
