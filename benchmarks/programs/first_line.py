"""The job that all queues run. RQ imports it anew in each forked process, so it must import nothing heavy."""

import os
import time

SOCKET = os.environ["BENCHMARK_REDIS"]
FIFO = os.environ["BENCHMARK_FIFO"]


def first_line():
    """Write down the time at which this job's code runs."""
    fd = os.open(FIFO, os.O_WRONLY)
    os.write(fd, f"{time.monotonic()!r}\n".encode())
    os.close(fd)
