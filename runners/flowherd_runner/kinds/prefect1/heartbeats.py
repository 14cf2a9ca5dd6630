"""Replaces the engine's heartbeat processes: the agent sends the flow run's heartbeats, a thread here the task runs'.

Older versions start a process for the flow run and another for each task run, newer ones one for the flow run. Servers
of the time of the older versions end a task run whose last heartbeat is two minutes old; later ones use the flow run's.
"""

import functools
import importlib
import threading
import time
from typing import Any, Callable, Dict, Optional


def take_over() -> None:
    """Keep the engine from starting processes that send heartbeats."""
    _runner("flow_runner", "CloudFlowRunner")._heartbeat = _none
    task_runner = _runner("task_runner", "CloudTaskRunner")
    if "_heartbeat" in vars(task_runner):  # older versions
        interval_s = importlib.import_module("prefect").config.cloud.get("heartbeat_interval")
        task_runner._heartbeat = _none
        task_runner.get_task_run_state = _beating(task_runner.get_task_run_state, TaskHeartbeats(interval_s or 30.0))


def _runner(module: str, name: str) -> Any:
    return getattr(importlib.import_module("prefect.engine.cloud." + module), name)


def _none(runner: Any) -> bool:
    """Replaces the method that sends the first heartbeat and returns whether a process should send more."""
    return False


def _beating(method: Callable[..., Any], beats: "TaskHeartbeats") -> Callable[..., Any]:
    @functools.wraps(method)
    def inner(self: Any, *args: Any, **kwargs: Any) -> Any:
        beats.begin(self)
        try:
            return method(self, *args, **kwargs)
        finally:
            beats.end(self)

    return inner


class TaskHeartbeats:
    """One thread that sends heartbeats for each task run that takes longer than `interval_s`.

    Without a lock: a task may fork at any moment, and a lock that is held then would stay locked in the child.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        #: Working task runners, and when their next heartbeat is due (monotonic seconds).
        self._due: Dict[Any, float] = {}
        self._thread: Optional[threading.Thread] = None

    def begin(self, runner: Any) -> None:
        """Note that the task run of `runner` begins; its Running state was its first heartbeat."""
        self._due[runner] = time.monotonic() + self._interval_s
        if self._thread is None or not self._thread.is_alive():  # a fork does not inherit the thread
            self._thread = threading.Thread(target=self._send_all, name="flowherd-heartbeats", daemon=True)
            self._thread.start()

    def end(self, runner: Any) -> None:
        """Note that the task run of `runner` has ended."""
        self._due.pop(runner, None)

    def _send_all(self) -> None:
        while True:
            time.sleep(self._interval_s / 4)
            for runner, due in list(self._due.items()):
                if time.monotonic() >= due:
                    self._send(runner)

    def _send(self, runner: Any) -> None:
        if runner in self._due:
            self._due[runner] = time.monotonic() + self._interval_s
        try:
            runner.client.update_task_run_heartbeat(runner.task_run_id)
        except Exception as error:  # clients raise many things, depending on the version; the next one may succeed
            runner.logger.debug("A heartbeat of the task run was not accepted: %s", error)
