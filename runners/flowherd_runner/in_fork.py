"""Runs the user's code in the fork itself: makes the interpreter as fresh as possible, and ends as one does.

Every kind that runs Python without exec uses this: `enter`, then `run_and_exit`, in the user's process.
"""

import atexit
import importlib
import io
import logging
import os
import signal
import sys
import threading
import time
import traceback
from types import CoroutineType, ModuleType, TracebackType
from typing import Any, Callable, Dict, List, NoReturn, Optional

from flowherd_runner import PACKAGE_DIRECTORY, random_generators
from flowherd_runner.contract.reasons import FLOW_RAISED
from flowherd_runner.kinds.definition import FlowProcess, NotStarted
from flowherd_runner.record_sender import flush_streams

_OWN_DIRECTORY = PACKAGE_DIRECTORY + os.sep
_LOGGER = "flow"
_MAX_MESSAGE_CHARS = 5000
#: What the interpreter has made of PYTHONUNBUFFERED and PYTHONIOENCODING for standard output; without the latter UTF-8,
#: in which the run's log is kept.
_WRITES_THROUGH = bool(getattr(sys.__stdout__, "write_through", False))
_ENCODING = str(getattr(sys.__stdout__, "encoding", "utf-8")) if os.environ.get("PYTHONIOENCODING") else "utf-8"
_ERRORS = str(getattr(sys.__stdout__, "errors", "")) if os.environ.get("PYTHONIOENCODING") else "backslashreplace"


def enter(flow: FlowProcess, argv: List[str]) -> None:
    """Give the forked interpreter the run's environment, paths, streams and random numbers."""
    _adopt_environment(flow.environment)
    sys.argv = argv
    # Otherwise multiprocessing's spawn would import boot.py as its main module.
    sys.modules["__main__"] = ModuleType("__main__")
    # Not when it is only inherited from the agent, as in many containers: lines of several threads would be mixed.
    _open_streams(unbuffered=_WRITES_THROUGH and "PYTHONUNBUFFERED" in flow.spec.env)
    _reseed()


def run_and_exit(flow: FlowProcess, body: Callable[[], object]) -> NoReturn:
    """Call `body`, run the coroutine that it may return, and end the process as an interpreter would.

    NotStarted passes through; every other exception is the user's: it is logged and sent to the runner.
    """
    number: Optional[int] = None
    code = 0
    try:
        _call(body)
    except NotStarted:
        flush_streams()
        raise
    except SystemExit as error:
        code = _exit_code(error)
    except BaseException as error:  # any exception of the user's code ends it
        code = FLOW_RAISED
        _report(flow, error)
        if isinstance(error, KeyboardInterrupt):
            number = signal.SIGINT
    _finish()
    if number is not None:
        # As the interpreter does, so that the wait status shows what ended the process.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(code)


def _call(body: Callable[[], object]) -> None:
    result = body()
    if isinstance(result, CoroutineType):
        import asyncio  # would cost every fork server memory, and most runs never need it

        asyncio.run(result)


def _adopt_environment(environment: Dict[str, str]) -> None:
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)
    time.tzset()
    for path in reversed(os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        if path and path not in before:
            sys.path.insert(0, path)


def _open_streams(unbuffered: bool) -> None:
    """Make new streams: those of the fork server may hold output, or have been replaced."""
    stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8")
    sys.stdin = sys.__stdin__ = stdin  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _writer(1, unbuffered)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _writer(2, unbuffered)  # type: ignore[misc]


def _writer(fd: int, unbuffered: bool) -> io.TextIOWrapper:
    raw = io.FileIO(fd, "w", closefd=False)
    if unbuffered:
        return io.TextIOWrapper(raw, encoding=_ENCODING, errors=_ERRORS, write_through=True)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=_ENCODING, errors=_ERRORS, line_buffering=True)


def _reseed() -> None:
    """Give the run random numbers that no other run of the same fork server has."""
    random_generators.reseed()


def _exit_code(error: SystemExit) -> int:
    """Return the exit code that the interpreter makes of the argument of sys.exit."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def _report(flow: FlowProcess, error: BaseException) -> None:
    """Report an exception that the user's code did not catch: to the log, the runner, and a hook that it has set."""
    trimmed = _user_frames(error.__traceback__)
    message = "".join(traceback.format_exception(type(error), error, trimmed)).rstrip("\n")
    flow.sender.record(logging.ERROR, _LOGGER, message)
    flow.sender.send({"exception": describe_exception(error)})
    if sys.excepthook is not sys.__excepthook__:
        try:
            sys.excepthook(type(error), error, trimmed)
        except BaseException:  # the user's hook; as the interpreter does, print its error and go on
            traceback.print_exc()


def describe_exception(error: BaseException) -> Dict[str, str]:
    """Return the message about `error` for the runner: see channel.py."""
    return {"type": _type_name(type(error)), "message": _text(error)}


def _user_frames(trace: Optional[TracebackType]) -> Optional[TracebackType]:
    """Return `trace` without flowherd's own frames and those of the import that it started."""
    while trace is not None and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def _is_ours(filename: str) -> bool:
    return filename.startswith((_OWN_DIRECTORY, "<frozen importlib")) or filename == importlib.__file__


def _type_name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else "{}.{}".format(kind.__module__, kind.__qualname__)


def _text(error: BaseException) -> str:
    try:
        return str(error)[:_MAX_MESSAGE_CHARS]
    except Exception:  # the user's __str__
        return "<no message: its __str__ failed>"


def _finish() -> None:
    """Do what the interpreter does between the last line of a program and its exit."""
    steps: List[Callable[[], Any]] = [
        getattr(threading, "_shutdown"),  # noqa: B009 - waits for threads, as multiprocessing's children do
        getattr(atexit, "_run_exitfuncs"),  # noqa: B009
    ]
    for step in steps:
        try:
            step()
        except BaseException:  # the user's code again; the process must still end
            traceback.print_exc()
    flush_streams()
