"""Flows for runs in the warm fork; the tests say what each has to do."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.blocks.system import Secret
from prefect.flow_runs import pause_flow_run, suspend_flow_run
from prefect.settings import get_current_settings


@task
def speak(word: str) -> str:
    get_run_logger().info("says %s", word)
    return word


@flow
def keeping() -> None:
    print("block", Secret.load("kept-by-a-test").get())


@flow(log_prints=True)
def speaking(word: str = "hello") -> str:
    print("prints", word)
    get_run_logger().warning("of the flow")
    logging.getLogger("of.nobody").warning("of nobody")
    sys.stderr.write("to stderr\n")
    subprocess.run(["echo", "by a child"], check=True)
    futures = [speak.submit(f"{word} {number}") for number in (1, 2)]
    return " ".join(future.result() for future in futures)


@flow
async def speaking_later(word: str = "hello") -> None:
    await asyncio.sleep(0.01)
    get_run_logger().info("later %s", word)


@flow
def inner() -> None:
    get_run_logger().info("of the subflow")
    speak("of a subflow's task")


@flow
def outer() -> None:
    inner()
    get_run_logger().info("behind the subflow")


_tries = []


@flow(retries=1, retry_delay_seconds=0)
def retried() -> None:
    _tries.append(1)
    get_run_logger().info("try %d", len(_tries))
    if len(_tries) == 1:
        raise ValueError("the first")


@flow
def failing() -> None:
    raise ValueError("a failure")


@flow(timeout_seconds=0.3)
def overdue() -> None:
    for _ in range(400):
        time.sleep(0.01)


@flow
def suspended() -> None:
    suspend_flow_run(timeout=60)


@flow
def paused() -> None:
    pause_flow_run(timeout=60, poll_interval=1)
    get_run_logger().info("behind the pause")


@flow
def looking(names: list[str]) -> None:
    settings = get_current_settings()
    key = settings.api.key
    seen = {
        "environ": {name: os.environ.get(name) for name in names},
        "key": None if key is None else key.get_secret_value(),
        "home": str(settings.home),
        "profiles": str(settings.profiles_path),
        "level": settings.logging.level,
        "retries": settings.flows.default_retries,
        "extra": [name for name in ("mine", "theirs") if logging.getLogger(name).handlers],
        "cwd": str(Path.cwd()),
    }
    sys.stdout.write("SEEN " + json.dumps(seen) + "\n")


def _hook(flow, flow_run, state) -> None:
    print("hook at", state.name)


def _failing_hook(*_: object) -> None:
    raise ValueError("of a hook")


def _hook_by_name(*, state, **others) -> None:
    print("named", sorted(others), "at", state.name)


async def _hook_with_names_of_its_own(the_flow, run, now) -> None:
    print("later at", now.name)


@flow(on_cancellation=[_hook, _failing_hook, _hook_by_name, _hook_with_names_of_its_own])
def working() -> None:
    try:
        print("working", flush=True)
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)


@flow(on_crashed=[_hook])
def terminated() -> None:
    print("working", flush=True)
    time.sleep(60)


@flow
async def working_later() -> None:
    try:
        print("working", flush=True)
        await asyncio.sleep(60)
    finally:
        print("cleaned up", flush=True)


@flow
def killing_itself() -> None:
    get_run_logger().info("last words")
    os.kill(os.getpid(), 9)


@flow
def looking_at_all() -> None:
    """Print all settings, and every logger with a level or a handler."""
    known = [("", logging.getLogger()), *sorted(logging.Logger.manager.loggerDict.items())]
    loggers = {
        name: [logger.level, logger.propagate, sorted(type(handler).__name__ for handler in logger.handlers)]
        for name, logger in known
        if isinstance(logger, logging.Logger) and (logger.level or logger.handlers)
    }
    settings = get_current_settings().to_environment_variables(exclude_unset=False, include_secrets=True)
    sys.stdout.write("SEEN " + json.dumps({"settings": settings, "loggers": loggers}) + "\n")


@flow
def stepping() -> None:
    """Run tasks without an end, until it is suspended."""
    for number in range(600):
        speak(f"step {number}")
        time.sleep(0.1)


@flow
def forking() -> None:
    """Fork a process in a session of its own that is alive when the flow ends."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        os.write(write, b"!")
        time.sleep(600)
        os._exit(0)
    os.read(read, 1)
