"""An executor whose threads never hold up the end of the program, whatever they wait for.

`concurrent.futures.ThreadPoolExecutor` is not used, because the interpreter joins its threads at its end: an agent
would end only when the slowest request of its backend has been answered.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_CLOSED = "no work is taken any more: the agent is stopping"


class WorkerThreads(Executor):
    """Runs functions in `count` daemon threads, which are all started now. Raises RuntimeError if one cannot be.

    A thread that cannot be started later, because the host has no process left, would leave its work in the queue and
    yet report it as refused: the flow run would be handed out again and be deployed by two threads at once.
    """

    def __init__(self, count: int, name: str) -> None:
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._unfinished = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True) for number in range(count)
        ]
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError:
            self.shutdown(wait=False)
            raise

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function soon. Raises RuntimeError after `shutdown`."""
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # as every executor does: it belongs to the one who asks for the result
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._lock:
            if self._closed:
                raise RuntimeError(_CLOSED)
            self._unfinished += 1
            self._queue.put(work)
        return future

    def run(self, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Run a function in this thread, counted as submitted work. Raises RuntimeError after `shutdown`."""
        with self._lock:
            if self._closed:
                raise RuntimeError(_CLOSED)
            self._unfinished += 1
        try:
            fn(*args, **kwargs)
        finally:
            with self._lock:
                self._unfinished -= 1

    def is_idle(self) -> bool:
        """Return whether all submitted work has ended."""
        return self._unfinished == 0

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work; the threads end after what was submitted. `cancel_futures` is not needed and ignored."""
        with self._lock:
            self._closed = True
        for _ in self._threads:
            self._queue.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _work(self) -> None:
        work: Any
        while (work := self._queue.get()) is not None:
            try:
                work()
            finally:
                with self._lock:
                    self._unfinished -= 1
