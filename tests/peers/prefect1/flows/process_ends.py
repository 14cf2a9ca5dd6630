"""Flows whose processes end or are left behind: killed, timed out, cancelled, with threads and children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

from flows.versions import PREFECT_1, logger, scratch
from prefect import Flow, task
from prefect.tasks.shell import ShellTask
from prefect.triggers import any_failed


@task
def fine():
    logger().info("fine")
    return "fine"


def timing_out():
    @task(timeout=1)
    def slow():
        time.sleep(30)

    @task(trigger=any_failed)
    def after():
        logger().info("it took too long")

    with Flow("timing-out") as flow:
        slow_one = slow()
        after(upstream_tasks=[slow_one])
    return flow


def sub_process_killed():
    @task
    def run():
        process = subprocess.Popen(["sleep", "60"])
        process.kill()
        logger().info("ended with %s", process.wait())
        process = subprocess.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
        process.check_returncode()

    with Flow("sub-process-killed") as flow:
        run()
    return flow


def shell():
    streaming = {"stream_output": True} if PREFECT_1 else {"log_stderr": True}
    with Flow("shell") as flow:
        ShellTask(name="two lines", command="echo one; echo two >&2", **streaming)()
        ShellTask(name="killed", command="kill -9 $$", log_stderr=True)()
    return flow


def process_killed():
    @task
    def kill():
        logger().info("about to be killed")
        os.kill(os.getpid(), signal.SIGKILL)

    with Flow("process-killed") as flow:
        kill(upstream_tasks=[fine()])
    return flow


def process_exits():
    @task
    def leave():
        logger().info("leaving")
        os._exit(3)

    with Flow("process-exits") as flow:
        leave()
    return flow


def cancelled():
    """Work in short steps until it is cancelled."""

    @task
    def work():
        logger().info("working")
        open(scratch("working"), "w").close()
        for _ in range(600):
            time.sleep(0.1)

    @task
    def after(x):
        logger().info("never said")

    with Flow("cancelled") as flow:
        after(work())
    return flow


def leaving_threads_and_children():
    """Threads and processes that a task leaves running do not delay the end of the flow."""

    @task
    def leave():
        threading.Thread(target=time.sleep, args=(2,), daemon=True).start()
        subprocess.Popen(["sleep", "3"])
        logger().info("left both")

    with Flow("leaving-threads-and-children") as flow:
        leave()
    return flow


FLOWS = [
    timing_out,
    sub_process_killed,
    shell,
    process_killed,
    process_exits,
    cancelled,
    leaving_threads_and_children,
]
