"""Flows that an agent of a work pool runs (prefect3/test_agent_runs.py and others)."""

import os
import signal
import time
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.flow_runs import suspend_flow_run
from prefect.logging.loggers import flow_run_logger


@task
def half(number: int) -> int:
    get_run_logger().info("halving %d", number)
    return number // 2


@flow(log_prints=True)
def greeting(name: str = "world") -> int:
    print("hello", name)
    os.write(1, b"raw output\n")
    os.system("echo of a child")
    os.system("echo the secret is $SECRET")
    return half(6)


@flow
def endless() -> None:
    print("working", flush=True)
    while True:
        time.sleep(0.05)


@flow
def part(name: str) -> None:
    get_run_logger().info("part %s", name)


def tell(flow, flow_run, state) -> None:  # type: ignore[no-untyped-def]
    time.sleep(1)  # by then the agent has searched for what the run may have left behind
    flow_run_logger(flow_run, flow).info("hook of %s after %s", flow.name, state.name)
    print("printed by a hook", flush=True)


@flow(on_cancellation=[tell], on_crashed=[tell])
def stubborn() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("ignoring", flush=True)
    while True:
        time.sleep(0.05)


@flow(on_crashed=[tell], on_cancellation=[tell])
def deadly() -> None:
    print("about to die", flush=True)
    part("one")
    os.kill(os.getpid(), signal.SIGKILL)


@flow
def failing() -> None:
    raise ValueError("on purpose")


@flow(log_prints=True)
def suspending() -> None:
    print("in process", os.getpid())
    suspend_flow_run(timeout=120)
    print("resumed in process", os.getpid())


@flow
def patient(file: str) -> None:
    part("before")
    print("waiting", flush=True)
    while not Path(file).exists():
        time.sleep(0.05)
    part("behind")
    print("it is there", flush=True)


@flow
def counting(file: str) -> None:
    number = 0
    while not Path(file).exists():
        number += 1
        print(number, flush=True)
        time.sleep(0.1)
    print("last", number, flush=True)
