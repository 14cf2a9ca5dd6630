"""A run of a fleet by Prefect's own engine; it leaves the same traces as fleet_job.py."""

import os

from fleet_job import LINES, note_start, take_time
from prefect import flow


@flow(log_prints=True)
def member(directory: str, seconds: float, release: str = "") -> None:
    note_start(directory)
    for number in range(LINES):
        if number % 2:
            os.write(1, b"line %d\n" % number)
        else:
            print("line", number)
        take_time(seconds / LINES, "")
    take_time(0, release)
