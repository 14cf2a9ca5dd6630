"""The job that Celery and Huey run; imported by their workers and by queue_client.py, in their own environment."""

import os
import time

from celery import Celery
from huey import RedisHuey

SOCKET = os.environ["BENCHMARK_REDIS"]
FIFO = os.environ["BENCHMARK_FIFO"]


def first_line():
    """Write down the time at which this job's code runs."""
    fd = os.open(FIFO, os.O_WRONLY)
    os.write(fd, f"{time.monotonic()!r}\n".encode())
    os.close(fd)


app = Celery("bench", broker="redis+socket://" + SOCKET, backend="redis+socket://" + SOCKET)
app.conf.update(worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)
celery_job = app.task(first_line)
huey = RedisHuey("bench", url="unix://" + SOCKET, store_none=True, notify_result=True)
huey_job = huey.task()(first_line)
