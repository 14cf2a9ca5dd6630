"""Creates jobs and waits for their results; one line "N" on standard input asks for N jobs at once.

Prints "ready", and for each line a JSON object: the time at which the last creation was answered, and at which the last
result was known (CLOCK_MONOTONIC).
"""

import json
import sys
import time

from first_line import SOCKET, first_line
from redis import Redis


def rq_jobs():
    from rq import Queue

    queue = Queue(connection=Redis(unix_socket_path=SOCKET))
    return lambda: queue.enqueue(first_line), lambda job: job.latest_result(timeout=60)


def celery_jobs():
    import queue_tasks

    return queue_tasks.celery_job.delay, lambda job: job.get(timeout=60)


def huey_jobs():
    import queue_tasks

    return queue_tasks.huey_job, lambda job: job.get(blocking=True, timeout=60)


create, wait = {"rq": rq_jobs, "celery": celery_jobs, "huey": huey_jobs}[sys.argv[1]]()
print("ready", flush=True)
for line in sys.stdin:
    jobs = [create() for _ in range(int(line))]
    answered = time.monotonic()
    for job in jobs:
        wait(job)
    print(json.dumps({"answered": answered, "result": time.monotonic()}), flush=True)
