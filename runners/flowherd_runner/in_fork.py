"""Runs the user's code in the fork itself: makes the interpreter as fresh as possible, and ends as one does.

Every kind that runs Python without exec uses this: `enter`, then `run_and_exit`, in the user's process.
"""

import builtins
import importlib
import importlib.machinery
import io
import logging
import os
import sys
import time
import traceback
from collections import abc
from types import ModuleType, TracebackType
from typing import Any, Callable, Dict, Iterator, List, NoReturn, Optional

from flowherd_runner import PACKAGE_DIRECTORY, osapi, random_generators
from flowherd_runner.contract.reasons import FLOW_RAISED
from flowherd_runner.interpreter_end import finalise, set_preloads_apart, show_stack_when_ended
from flowherd_runner.kinds.definition import FlowProcess, NotStarted
from flowherd_runner.record_sender import flush_streams
from flowherd_runner.segment_writer import SegmentWriter

_OWN_DIRECTORY = PACKAGE_DIRECTORY + os.sep
_LOGGER = "flow"
_MAX_MESSAGE_CHARS = 5000
#: Maximum number of an exception's causes that its message names; causes can form a circle.
_MAX_CAUSES = 3
#: What the interpreter has made of PYTHONUNBUFFERED and PYTHONIOENCODING for standard output; without the latter UTF-8,
#: in which the run's log is kept.
_WRITES_THROUGH = bool(getattr(sys.__stdout__, "write_through", False))
_ENCODING = str(getattr(sys.__stdout__, "encoding", "utf-8")) if os.environ.get("PYTHONIOENCODING") else "utf-8"
#: How the interpreter treats bytes and characters that a stream cannot carry: by the locale that it was started in.
_ERRORS = str(getattr(sys.__stdout__, "errors", None) or "strict")


def enter(flow: FlowProcess, argv: List[str]) -> None:
    """Give the forked interpreter the run's environment, paths, streams and random numbers."""
    _adopt_environment(flow.environment)
    sys.argv = argv
    if hasattr(sys, "orig_argv"):  # since 3.10
        sys.orig_argv = [sys.executable, *argv]
    # Not when it is only inherited from the agent, as in many containers: lines of several threads would be mixed.
    _open_streams(flow, unbuffered=_WRITES_THROUGH and "PYTHONUNBUFFERED" in flow.spec.env)
    _reseed()
    _forget_of_the_environment()
    set_preloads_apart()
    # Otherwise multiprocessing's spawn would import boot.py as its main module. It belongs to the run.
    sys.modules["__main__"] = fresh_main_module()


def fresh_main_module() -> ModuleType:
    """Return a module like the `__main__` of `python3 -c`."""
    module = ModuleType("__main__")
    vars(module).update(
        __builtins__=builtins, __loader__=importlib.machinery.BuiltinImporter, __annotations__={}
    )  # as in pylifecycle.c
    return module


def run_and_exit(flow: FlowProcess, body: Callable[[], object]) -> NoReturn:
    """Call `body`, run the coroutine or generator that it may return, and end the process as an interpreter would.

    NotStarted passes through; every other exception is the user's: it is logged and sent to the runner. A process that
    the user's code has forked may come here too; it ends like a script's, and the runner hears nothing of it.
    """
    pid = os.getpid()
    interrupted = False
    code = 0
    try:
        _call(body)
    except NotStarted:
        flush_streams()
        raise
    except SystemExit as error:
        code = _exit_code(error)
        if os.getpid() == pid and not isinstance(error.code, (int, type(None))):
            flow.sender.send({"exception": describe_exception(error)})
    except BaseException as error:  # any exception of the user's code ends it
        code = FLOW_RAISED
        _keep_for_finalization(error)
        if os.getpid() == pid:
            _report(flow, error)
        else:
            sys.excepthook(type(error), error, error.__traceback__)
        interrupted = isinstance(error, KeyboardInterrupt)
    if os.getpid() == pid and flow.sender.send({"finalising": True}):
        show_stack_when_ended(flow.sender.address[0])
    finalise(code, interrupted)


def _call(body: Callable[[], object]) -> None:
    result = body()
    if isinstance(result, abc.Coroutine):
        _run_coroutine(result)
    elif isinstance(result, abc.AsyncGenerator):
        _run_coroutine(_exhaust(result))
    elif isinstance(result, abc.Generator):
        for _ in result:
            pass


def _run_coroutine(coroutine: Any) -> None:
    import asyncio  # would cost every fork server memory, and most runs never need it

    asyncio.run(coroutine)


async def _exhaust(generator: Any) -> None:
    async for _ in generator:
        pass


def _adopt_environment(environment: Dict[str, str]) -> None:
    present = osapi.environment()
    before = present.get("PYTHONPATH", "").split(os.pathsep)
    for name in present:
        if name not in environment:
            del os.environ[name]
    for name, value in environment.items():
        if present.get(name) != value:
            os.environ[name] = value
    time.tzset()
    for path in reversed(os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        if path and path not in before:
            sys.path.insert(0, path)


def _open_streams(flow: FlowProcess, unbuffered: bool) -> None:
    """Make new streams: those of the fork server may hold output, or have been replaced."""
    stdin = io.TextIOWrapper(io.BufferedReader(_raw(0, "r", "<stdin>")), encoding="utf-8", errors=_ERRORS)
    sys.stdin = sys.__stdin__ = stdin  # type: ignore[misc]
    out: Any = _raw(1, "w", "<stdout>")
    err: Any = _raw(2, "w", "<stderr>")
    if not unbuffered:
        segments = flow.segments
        out = io.BufferedWriter(out) if segments is None else SegmentWriter(out, segments, flow.sender.address[1])
        err = io.BufferedWriter(err)
    sys.stdout = sys.__stdout__ = _writer(out, _ERRORS, unbuffered)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _writer(err, "backslashreplace", unbuffered)  # type: ignore[misc]
    setattr(stdin, "mode", "r")  # noqa: B010 - as the interpreter does for its three


def _writer(buffer: Any, errors: str, unbuffered: bool) -> io.TextIOWrapper:
    # By line, so that the log of a run is up to date.
    stream = io.TextIOWrapper(
        buffer, encoding=_ENCODING, errors=errors, line_buffering=not unbuffered, write_through=unbuffered
    )
    setattr(stream, "mode", "w")  # noqa: B010
    return stream


def _raw(fd: int, mode: str, name: str) -> io.FileIO:
    raw = io.FileIO(fd, mode, closefd=False)
    raw.name = name
    return raw


def _reseed() -> None:
    """Give the run random numbers that no other run of the same fork server has."""
    random_generators.reseed()
    if "multiprocessing.process" in sys.modules:
        process: Any = sys.modules["multiprocessing.process"]
        config = process.current_process()._config
        config["authkey"] = process.AuthenticationString(os.urandom(32))
        config.pop("tempdir", None)


def _forget_of_the_environment() -> None:
    """Have modules derive again what they have derived from the fork server's environment."""
    if "tempfile" in sys.modules:
        sys.modules["tempfile"].tempdir = None  # type: ignore[attr-defined]


def _exit_code(error: SystemExit) -> int:
    """Return the exit code that the interpreter makes of the argument of sys.exit."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF if -(2**63) <= error.code < 2**63 else 0xFF
    flush_streams()
    print(error.code, file=sys.stderr)
    return 1


def _keep_for_finalization(error: BaseException) -> None:
    """Keep the exception where the interpreter does: what its frames hold is finalised after the exit handlers."""
    error.__traceback__ = user_frames(error.__traceback__)
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
    if sys.version_info >= (3, 12):
        sys.last_exc = error


def _report(flow: FlowProcess, error: BaseException) -> None:
    """Report an exception that the user's code did not catch: to the log, the runner, and a hook that it has set."""
    flow.sender.record(logging.ERROR, _LOGGER, _as_printed(error))
    flow.sender.send({"exception": describe_exception(error)})
    if sys.excepthook is not sys.__excepthook__:
        try:
            sys.excepthook(type(error), error, error.__traceback__)
        except BaseException:  # the user's hook; as the interpreter does, print its error and go on
            traceback.print_exc()


def _as_printed(error: BaseException) -> str:
    """Return what the interpreter itself would print; the module traceback differs in details."""
    before, text = sys.stderr, io.StringIO()
    sys.stderr = text
    try:
        sys.__excepthook__(type(error), error, error.__traceback__)
    finally:
        sys.stderr = before
    return text.getvalue().rstrip("\n")


def describe_exception(error: BaseException) -> Dict[str, str]:
    """Return the message about `error` for the runner: see channel.py.

    It names the errors from which this one was raised (`raise ... from`), unless its own text has them already.
    """
    message = _text(error)
    for cause in _causes(error):
        text = _text(cause)
        if not text or text not in message:
            described = "{}: {}".format(_type_name(type(cause)), text).rstrip(": ")
            message = "{}; caused by {}".format(message, described) if message else "caused by " + described
    return {"type": _type_name(type(error)), "message": message[:_MAX_MESSAGE_CHARS]}


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause = error.__cause__
    for _ in range(_MAX_CAUSES):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__


def user_frames(trace: Optional[TracebackType]) -> Optional[TracebackType]:
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
