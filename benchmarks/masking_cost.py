"""What masking costs a line of output, by the number of secrets, and what making the pattern costs a run's start.

    python benchmarks/masking_cost.py [--lines 20000] [--rounds 5]

Lines of 100 bytes of an ordinary log, none of which holds a secret. "in a chunk" is how runs are masked: one look at
all lines that were read together. "alone" is each line by itself. Medians of all rounds.
"""

from __future__ import annotations

import argparse
import random
import statistics
import string
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "runners"))

from flowherd_runner.masking import Mask

NUMBERS_OF_SECRETS = (0, 1, 5, 20, 100)
_ALPHABET = string.ascii_letters + string.digits + "/+-_"


def lines_of_a_log(count: int) -> list[bytes]:
    """Return lines as servers and data jobs write them."""
    text = "2030-01-31 12:00:00,{:03d} INFO  worker: step {} of {} took {:.3f} s, wrote /srv/data/part-{:05d}.parquet"
    return [text.format(n % 1000, n, count, n / 7, n).ljust(100).encode() for n in range(count)]


def secrets(count: int) -> list[str]:
    """Return random tokens and passwords, the same ones every time."""
    chosen = random.Random(1)
    return ["".join(chosen.choices(_ALPHABET, k=chosen.choice((12, 20, 40)))) for _ in range(count)]


def median_s(rounds: int, action: Callable[[], object]) -> float:
    """Return the median time of one call."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    """Measure and print one row for each number of secrets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    lines = lines_of_a_log(options.lines)
    chunk = b"\n".join(lines)
    print("secrets  make the pattern, ms  in a chunk, us/line  alone, us/line")
    for count in NUMBERS_OF_SECRETS:
        values = secrets(count)
        mask = Mask(values)
        made_s = median_s(options.rounds, lambda values=values: Mask(values))  # type: ignore[misc]
        chunk_s = median_s(options.rounds, lambda mask=mask: mask.occurs_in(chunk))  # type: ignore[misc]
        alone_s = median_s(options.rounds, lambda mask=mask: [mask.line(line) for line in lines])  # type: ignore[misc]
        per_line = (1e6 * chunk_s / len(lines), 1e6 * alone_s / len(lines))
        print(f"{count:7}  {1e3 * made_s:20.2f}  {per_line[0]:19.2f}  {per_line[1]:14.2f}")


if __name__ == "__main__":
    main()
