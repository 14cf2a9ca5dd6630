"""Flows whose tasks end in each way there is: success, failure, signals, retries, pauses."""

from __future__ import annotations

import prefect
from flows.versions import logger, seconds
from prefect import Flow, case, task
from prefect.engine import signals
from prefect.triggers import all_finished, any_failed, manual_only


@task
def fine():
    logger().info("fine")
    return "fine"


@task
def breaks():
    raise ValueError("this breaks")


def failing():
    """A failed task keeps the task that needs it from running, and starts the one that waits for a failure."""

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
    """The end of the flow is that of the tasks that it names."""
    with Flow("reference-tasks") as flow:
        good = fine()
        breaks()
    flow.set_reference_tasks([good])
    return flow


def raising():
    """The flow itself raises, outside any task."""

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
    def log_value(found):
        logger().info("factorial %s", found)

    with Flow("looping") as flow:
        log_value(factorial(4))
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
    def log_value(values):
        logger().info("values %s", values)

    with Flow("mapped-retries") as flow:
        log_value(second_is_late.map(items()))
    return flow


def long_retry():
    """The retry is too far away for the process to wait: the agent gets the run a second time."""

    @task(max_retries=1, retry_delay=seconds(3600))
    def second_time():
        count = prefect.context.task_run_count
        logger().info("attempt %s", count)
        if count < 2:
            raise ValueError("come back later")
        return count

    @task
    def log_value(before, count):
        logger().info("%s, count %s", before, count)

    with Flow("long-retry") as flow:
        log_value(fine(), second_time())
    return flow


def pausing():
    """Wait for a person twice: by a signal and by a trigger."""

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
    """A handler turns the end of a task into another."""

    def turn(task, old, new):
        if new.is_failed():
            return prefect.engine.state.Success("turned", result="turned")
        return new

    @task(state_handlers=[turn])
    def turned():
        raise ValueError("not for long")

    @task
    def log_value(found):
        logger().info("value %r", found)

    with Flow("terminal-handler") as flow:
        log_value(turned())
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
    state_handlers,
    terminal_handler,
]
