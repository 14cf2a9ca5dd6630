"""Flows that end in every possible way."""

import asyncio
import builtins
import ctypes
import os
import signal
import sys
import time

from prefect import flow, get_run_logger, task
from prefect.states import Cancelled, Completed, Crashed, Failed


class OutOfBounds(BaseException):
    """An error that `except Exception` does not catch."""


@task
def passing(number: int = 1) -> int:
    return number


@task
def breaking(text: str = "in the task") -> None:
    raise ValueError(text)


@flow(persist_result=True)
def completing() -> dict:
    return {"a": [1, 2, 3], "b": "ü"}


@flow
async def completing_later() -> str:
    await asyncio.sleep(0.01)
    return "later"


_RETURNED = {
    "completed": lambda: Completed(message="all is well", name="Done Well", data=7),
    "failed": lambda: Failed(message="as asked"),
    "cancelled": lambda: Cancelled(message="by itself"),
    "crashed": lambda: Crashed(message="by itself"),
    "mixed": lambda: [Completed(message="one"), Failed(message="two")],
    "future": lambda: passing.submit(3),
    "failed future": lambda: breaking.submit(),
    "task state": lambda: passing(return_state=True),
    "nothing": lambda: None,
    "exception": lambda: ValueError("returned"),
}


@flow(persist_result=True)
def returning(what: str):
    return _RETURNED[what]()


@flow
def ignoring_a_failed_task() -> str:
    breaking.submit().wait()
    return "and yet it ends"


@flow
def raising(text: str = "on purpose") -> None:
    raise ValueError(text)


@flow
async def raising_later() -> None:
    await asyncio.sleep(0)
    raise ValueError("later")


@flow
def raising_in_a_task() -> None:
    breaking("in the task")


class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")
        self.lock = time


_RAISED = {
    "group": lambda: builtins.ExceptionGroup("several", [ValueError("one"), KeyError("two")]),
    "unpicklable": lambda: Unpicklable(1, 2),
    "caused": lambda: RuntimeError("outer"),
    "recursion": lambda: RecursionError("too deep"),
    "memory": lambda: MemoryError("too much"),
    "interrupt": lambda: KeyboardInterrupt(),
    "base": lambda: OutOfBounds("out of bounds"),
    "exit 0": lambda: SystemExit(0),
    "exit 3": lambda: SystemExit(3),
    "exit text": lambda: SystemExit("a text"),
    "cancelled": lambda: asyncio.CancelledError(),
    "generator": lambda: GeneratorExit(),
}


@flow
def raising_this(what: str) -> None:
    raise _RAISED[what]()


@task
def task_raising_this(what: str) -> None:
    raise _RAISED[what]()


@flow
def raising_this_in_a_task(what: str) -> None:
    task_raising_this(what)


@flow
async def raising_this_later(what: str) -> None:
    await asyncio.sleep(0)
    raise _RAISED[what]()


_DEATHS = {
    "exit 0": lambda: os._exit(0),
    "exit 4": lambda: os._exit(4),
    "abort": os.abort,
    "segfault": lambda: ctypes.string_at(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "term": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "exit in sys": lambda: sys.exit(5),
}


@flow
def dying(how: str) -> None:
    get_run_logger().info("last words")
    time.sleep(0.1)
    _DEATHS[how]()
    time.sleep(5)


@flow(timeout_seconds=0.3)
def overdue() -> None:
    for _ in range(400):
        time.sleep(0.01)


@flow(timeout_seconds=0.3)
async def overdue_later() -> None:
    await asyncio.sleep(20)


@task(timeout_seconds=0.2)
def slow_task() -> None:
    for _ in range(400):
        time.sleep(0.01)


@flow
def with_an_overdue_task() -> None:
    slow_task()


_tries = []


@flow(retries=2, retry_delay_seconds=0, log_prints=True)
def retried(successful_try: int = 2) -> int:
    _tries.append(1)
    print("try", len(_tries))
    if len(_tries) < successful_try:
        raise ValueError(f"try {len(_tries)}")
    return len(_tries)


@task(retries=3, retry_delay_seconds=[0.1, 0.2, 0.1], retry_condition_fn=lambda task, run, state: True)
def stubborn() -> int:
    _tries.append(1)
    if len(_tries) < 3:
        raise ValueError(f"try {len(_tries)}")
    return len(_tries)


@flow
def with_a_retried_task() -> int:
    return stubborn()


def _hook(flow, flow_run, state) -> None:
    get_run_logger().info("hook at %s", state.name)
    print("hook prints", state.type)


async def _later(flow, flow_run, state) -> None:
    print("hook later", state.type)


def _broken(flow, flow_run, state) -> None:
    raise RuntimeError("a broken hook")


_HOOKS = {"on_running": [_hook], "on_completion": [_hook, _broken, _later], "on_failure": [_hook, _later]}


@flow(log_prints=True, on_crashed=[_hook], **_HOOKS)
def hooked(what: str = "") -> None:
    if what:
        raise _RAISED.get(what, lambda: ValueError(what))()


@flow(log_prints=True)
def yielding():
    for number in range(3):
        print("yields", number)
        yield number


@flow
async def yielding_later():
    for number in range(3):
        get_run_logger().info("yields %d", number)
        yield number
