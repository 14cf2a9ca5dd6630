"""What metrics cost: the server's answer beside many runs, and what an agent adds up for one run.

python benchmarks/metrics_cost.py [--runs 100000] [--times 50]

first     the first answer of a server, which also reads how the newest run of each flow ended
answer    any other
floor     /health of the same server
counting  CPU time of what an agent counts of one run, from its claim to its end
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.fill_database import Templates
from tests.support.server import running_server

from flowherd.agent.measures import Measures, RunOfHost
from flowherd.states import RunState
from flowherd.values import Flow, FlowRun, StateReport

_COUNTED = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description="What metrics cost")
    parser.add_argument("--runs", type=int, default=100_000, help="runs in the database")
    parser.add_argument("--times", type=int, default=50, help="answers")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "filled"
        Templates(Path(directory) / "templates").fill(data, options.runs)
        with running_server(data) as server:
            first_ms = _ms(lambda: server.get("/metrics"))
            answers_ms = [_ms(lambda: server.get("/metrics")) for _ in range(options.times)]
            floor_ms = [_ms(lambda: server.get("/health")) for _ in range(options.times)]
            size = len(server.get("/metrics").content)
    print(f"first     {first_ms:8.1f} ms, {options.runs:,} runs")
    print(f"answer    {statistics.median(answers_ms):8.1f} ms, {size:,} bytes")
    print(f"floor     {statistics.median(floor_ms):8.1f} ms")
    print(f"counting  {_counting_us():8.1f} us")


def _ms(action: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - began_s)


def _counting_us() -> float:
    measures, now = Measures(), datetime.now(timezone.utc)
    due = {"start_time": now.isoformat()}
    run = FlowRun(
        id="r", name="n", version=1, state=RunState.SCHEDULED, serialized_state=due, flow=Flow(id="f", name="etl")
    )
    at_s = now.timestamp()
    phases, figures = (("intent", at_s), ("code", at_s), ("first_line", at_s)), (("cpu_time_s", 0.1), ("lines", 3))
    end = StateReport(
        flow_run_id="r", state=RunState.SUCCESS, message="", at=now, reason="exited", phases=phases, figures=figures
    )
    began_s = time.process_time()
    for _ in range(_COUNTED):
        measures.claimed(run)
        measures.claims_answered(0.001, ["won"])
        measures.reported(RunOfHost("r", "n", "etl", "a", None), end, RunState.SUCCESS)
    return 1e6 * (time.process_time() - began_s) / _COUNTED


if __name__ == "__main__":
    main()
