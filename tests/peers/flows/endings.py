"""Ways in which a task, a flow or its process can end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import prefect
from flows.versions import NEW, logger, scratch, seconds
from prefect import Flow, case, task
from prefect.engine import signals
from prefect.tasks.shell import ShellTask
from prefect.triggers import all_finished, any_failed, manual_only


@task
def fine():
    logger().info("fine")
    return "fine"


@task
def breaks():
    raise ValueError("this breaks")


def failing():
    """A task that fails keeps from running what needs it, and lets run what waits for just that."""

    @task
    def after(x):
        logger().info("never said")

    @task(trigger=any_failed)
    def rescue(x):
        logger().info("something failed")

    with Flow("failing") as flow:
        value = breaks()
        after(value)
        rescue(value)
        fine()
    return flow


def reference_tasks():
    """The flow's end is that of the tasks that it names."""
    with Flow("reference-tasks") as flow:
        good = fine()
        breaks()
    flow.set_reference_tasks([good])
    return flow


def raising():
    """The flow itself raises, outside of any task."""

    def handler(flow, old, new):
        if new.is_running():
            raise RuntimeError("the flow's own handler raises")
        return new

    with Flow("raising", state_handlers=[handler]) as flow:
        fine()
    return flow


def all_signals():
    @task
    def skips():
        raise signals.SKIP("not today")

    @task
    def needs_skipped(x):
        logger().info("never said")

    @task(skip_on_upstream_skip=False)
    def does_not_mind(x):
        logger().info("got %r", x)

    @task
    def succeeds():
        raise signals.SUCCESS("early", result=3)

    @task
    def fails():
        raise signals.FAIL("on purpose")

    @task(trigger=all_finished)
    def last():
        logger().info("last")

    with Flow("all-signals") as flow:
        skipped = skips()
        needs_skipped(skipped)
        does_not_mind(skipped)
        last(upstream_tasks=[fails(), succeeds()])
    return flow


def branches():
    @task
    def choose():
        return "left"

    @task
    def go(way):
        logger().info("went %s", way)
        return way

    with Flow("branches") as flow:
        way = choose()
        with case(way, "left"):
            left = go("left")
        with case(way, "right"):
            right = go("right")
        prefect.tasks.control_flow.merge(left, right)
    return flow


def looping():
    @task
    def factorial(n):
        so_far = prefect.context.get("task_loop_result", {"n": n, "product": 1})
        logger().info("round %s", prefect.context.get("task_loop_count", 1))
        if so_far["n"] > 1:
            raise signals.LOOP(
                message="n is {}".format(so_far["n"]),
                result={"n": so_far["n"] - 1, "product": so_far["product"] * so_far["n"]},
            )
        return so_far["product"]

    @task
    def tell(found):
        logger().info("factorial %s", found)

    with Flow("looping") as flow:
        tell(factorial(4))
    return flow


def retrying():
    @task(max_retries=3, retry_delay=seconds(1))
    def third_time():
        count = prefect.context.task_run_count
        logger().info("attempt %s", count)
        if count < 3:
            raise ValueError(f"attempt {count} fails")

    @task(max_retries=1, retry_delay=seconds(0))
    def never():
        raise ValueError("never")

    with Flow("retrying") as flow:
        third_time()
        never()
    return flow


def mapped_retries():
    @task
    def items():
        return [1, 2, 3]

    @task(max_retries=1, retry_delay=seconds(1))
    def second_is_late(x):
        if x == 2 and prefect.context.task_run_count < 2:
            raise ValueError("late")
        return x

    @task
    def tell(values):
        logger().info("values %s", values)

    with Flow("mapped-retries") as flow:
        tell(second_is_late.map(items()))
    return flow


def long_retry():
    """The retry is too far away to wait for it in the process: the agent gets the run a second time."""

    @task(max_retries=1, retry_delay=seconds(3600))
    def second_time():
        count = prefect.context.task_run_count
        logger().info("attempt %s", count)
        if count < 2:
            raise ValueError("come back later")
        return count

    @task
    def tell(before, count):
        logger().info("%s, count %s", before, count)

    with Flow("long-retry") as flow:
        tell(fine(), second_time())
    return flow


def pausing():
    """Waits for a person, twice: by a signal and by a trigger."""

    @task
    def gate():
        if not prefect.context.get("resume"):
            raise signals.PAUSE("waiting for a person")
        logger().info("the gate is open")

    @task(trigger=manual_only)
    def by_hand():
        logger().info("by hand")

    with Flow("pausing") as flow:
        by_hand(upstream_tasks=[gate(upstream_tasks=[fine()])])
    return flow


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
    streaming = {"stream_output": True} if NEW else {"log_stderr": True}
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
    """Works in short steps until somebody cancels it."""

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


def state_handlers():
    def of_task(task, old, new):
        task.logger.info("task %s: %s to %s", task.name, type(old).__name__, type(new).__name__)
        return new

    def of_flow(flow, old, new):
        flow.logger.info("flow: %s to %s", type(old).__name__, type(new).__name__)
        return new

    def on_failure(flow_or_task, state):
        flow_or_task.logger.info("%s failed: %s", flow_or_task.name, state.message)

    @task(state_handlers=[of_task], on_failure=on_failure)
    def watched():
        raise ValueError("seen")

    with Flow("state-handlers", state_handlers=[of_flow], on_failure=on_failure) as flow:
        watched()
    return flow


def terminal_handler():
    """A task's end that a handler turns into another."""

    def turn(task, old, new):
        if new.is_failed():
            return prefect.engine.state.Success("turned", result="turned")
        return new

    @task(state_handlers=[turn])
    def turned():
        raise ValueError("not for long")

    @task
    def tell(found):
        logger().info("value %r", found)

    with Flow("terminal-handler") as flow:
        tell(turned())
    return flow


def leaving_threads_and_children():
    """What a task leaves running does not keep the flow from its end."""

    @task
    def leave():
        threading.Thread(target=time.sleep, args=(2,), daemon=True).start()
        subprocess.Popen(["sleep", "3"])
        logger().info("left both")

    with Flow("leaving-threads-and-children") as flow:
        leave()
    return flow


FLOWS = [
    failing,
    reference_tasks,
    raising,
    all_signals,
    branches,
    looping,
    retrying,
    mapped_retries,
    long_retry,
    pausing,
    timing_out,
    sub_process_killed,
    shell,
    process_killed,
    process_exits,
    cancelled,
    state_handlers,
    terminal_handler,
    leaving_threads_and_children,
]
