"""What the page of a run with a long log costs the server.

    python benchmarks/run_page.py [--lines 100000] [--times 20]

    page        the page: the first 200 and the last 1,000 lines
    line        the page around a line in the middle
    errors      the lines of a level, of which there are few
    search      a text that is in one line of a thousand, counted in the whole log
    plain text  the whole log, streamed

Every second line has colours. Each figure is from the request to the last byte, as a program on the same host reads it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import requests

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.many_runs import SECOND_US, Filling
from tests.support.server import running_server

from flowherd_server.store.database import FILE_NAME, Database
from flowherd_server.store.log_lines import NewLine, store_lines


def fill(data_dir: Path, lines: int) -> str:
    """Make a database with a failed run that has written so many lines; return the run's id."""
    filling = Filling(data_dir)
    run_id = filling.run(filling.flow("long"), "Failed", due_s=9000, started_s=9000, ended_s=60, state_message="no")
    filling.write()
    start = filling.now - 9000 * SECOND_US
    with closing(Database(data_dir / FILE_NAME)) as database:
        for first in range(0, lines, 5000):
            with database.writing() as connection:
                some = [a_line(run_id, number, start) for number in range(first, min(first + 5000, lines))]
                store_lines(connection, some, filling.now)
    return run_id


def a_line(run_id: str, number: int, start: int) -> NewLine:
    colour, end = ("\x1b[32m", "\x1b[0m") if number % 2 else ("", "")
    text = f"{colour}{number}{end} read the part {number % 1000} of a file, {number * 7919 % 4096} KiB in 0.42 s"
    level = "ERROR" if number % 5000 == 0 else "INFO"
    return NewLine(run_id, None, start + number * 1000, None, level, text, stream="stdout")


def measure(url: str, times: int) -> tuple[list[float], int]:
    """Ask for an address again and again; return the seconds of each, and the bytes of an answer."""
    took, size = list[float](), 0
    with requests.Session() as session:
        for _ in range(times):
            began = time.monotonic()
            answer = session.get(url, timeout=120)
            took.append(time.monotonic() - began)
            answer.raise_for_status()
            size = len(answer.content)
    return took, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=100_000, help="lines of the log")
    parser.add_argument("--times", type=int, default=20, help="requests of each kind")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flowherd-benchmark-") as directory:
        data_dir = Path(directory) / "data"
        run_id = fill(data_dir, options.lines)
        with running_server(data_dir) as server:
            page = f"{server.url}/runs/{run_id}"
            measure(page, 3)  # the templates are compiled
            for name, address in (
                ("page", page),
                ("line", f"{page}?line={options.lines // 2}"),
                ("errors", f"{page}?level=error"),
                ("search", f"{page}?search=part%20123%20of"),
                ("plain text", f"{page}/log"),
            ):
                took, size = measure(address, options.times)
                median, most = statistics.median(took) * 1000, max(took) * 1000
                print(f"{name:11} median {median:7.1f} ms   most {most:7.1f} ms   {size / 1e6:6.2f} MB   n={len(took)}")


if __name__ == "__main__":
    main()
