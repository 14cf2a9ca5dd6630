"""A run without a runner: in a terminal, or only as far as its function.

    boot.py here --directory DIRECTORY           becomes the run of the spec in DIRECTORY, on the caller's streams
    boot.py check --directory DIRECTORY --fd N   finds the function of that spec, calls nothing, writes JSON to N:

    problem      why it cannot be reached, or null
    parameters   names of the parameters that can be given; null if any can, or they are not known
    required     names of those that have no default
    signature    what is known of each: name, annotation as text, required, default if it is a short scalar of JSON

Directory, user, environment, limits of a process and import paths are those of a run. There is no journal, nothing is
masked, and there is no limit of time, memory or processes. The process ends with the one that started it.
"""

import json
import logging
import os
import sys
import traceback
from enum import Enum
from functools import partial
from typing import Any, Callable, Dict, List, NoReturn, Optional, Tuple

from flowherd_runner import osapi
from flowherd_runner.contract.reasons import FLOW_NOT_STARTED
from flowherd_runner.contract.spec import RunSpec, spec_content, spec_of
from flowherd_runner.contract.variables import KIND_PYTHON
from flowherd_runner.flow_process import kind_of, prepared_process
from flowherd_runner.in_fork import describe_exception, enter, user_frames
from flowherd_runner.kinds.definition import FlowProcess, Kind, NotStarted
from flowherd_runner.kinds.python import find, parse_ref
from flowherd_runner.record_sender import RecordSender, flush_streams
from flowherd_runner.run_secrets import prepare

#: Characters of the longest signature that is written, which a pipe holds, of a default and of an annotation.
_MAX_DESCRIBED, _MAX_CHARS, _MAX_ANNOTATION = 32768, 200, 1000
#: Logger of the traceback with which a flow ends, which is printed as the interpreter does.
_FLOW = "flow"


class TerminalSender(RecordSender):
    """Prints records to standard error, where a run would send them to its runner."""

    def __init__(self) -> None:
        super().__init__(2, b"")

    def send(self, message: Dict[str, Any]) -> bool:
        """Print a notice; nothing reads the rest."""
        if "notice" in message:
            self._print("flowherd: {}".format(message["notice"]))
        return False

    def record(
        self,
        level: int,
        logger: str,
        message: str,
        task_run_id: Optional[str] = None,
        flow_run_id: Optional[str] = None,
        info: Optional[Dict[str, Any]] = None,
    ) -> None:
        """Print one record."""
        flush_streams()
        named = "{:<8}  {}: {}".format(logging.getLevelName(level), logger, message)
        self._print(message if logger == _FLOW and level >= logging.ERROR else named)

    @staticmethod
    def _print(text: str) -> None:
        try:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
        except (AttributeError, OSError, RuntimeError, ValueError):
            pass


def run_here(directory: str) -> NoReturn:
    """Become the run. Exits with FLOW_NOT_STARTED, after one sentence on standard error, if it cannot be reached."""
    sender = TerminalSender()
    try:
        flow, kind = _prepared(spec_of(spec_content(directory)), directory, sender)
        go_on: Callable[[], NoReturn] = partial(kind.run, flow) if kind.prepare is None else kind.prepare(flow)
        go_on()
    except NotStarted as error:
        sys.stderr.write("not started: {}\n".format(error))
        sys.stderr.flush()
    os._exit(FLOW_NOT_STARTED)


def check(directory: str, fd: int) -> NoReturn:
    """Find the function and write what was found to `fd`."""
    os.set_inheritable(fd, False)
    try:
        found: Dict[str, Any] = _look(directory)
    except NotStarted as error:
        found = {"problem": str(error)}
    except BaseException as error:  # any exception of the user's code, also SystemExit
        found = {"problem": _import_failed(error)}
    flush_streams()
    os.write(fd, json.dumps(dict({"parameters": None, "required": [], "signature": []}, **found)).encode())
    os._exit(0)


def _look(directory: str) -> Dict[str, Any]:
    spec = spec_of(spec_content(directory))
    flow, _ = _prepared(spec, directory, TerminalSender())
    if spec.kind != KIND_PYTHON:
        return {"problem": None}
    where, name = parse_ref(spec.target.get("ref"))
    path = os.path.join(flow.working_dir, where)
    enter(flow, ["-c"] if name else [path])
    if not name:
        return _compiled(path)
    return dict({"problem": None}, **_signature(find(where, name, flow)))


def _prepared(spec: RunSpec, directory: str, sender: RecordSender) -> Tuple[FlowProcess, Kind]:
    kind = kind_of(spec)
    if not isinstance(kind, Kind):
        raise kind
    parent = os.getppid()
    osapi.reset_signals(python=kind.in_fork)
    readable = prepare(spec)
    if readable.refusal is not None:
        raise NotStarted(readable.refusal)
    return prepared_process(readable.spec, directory, parent, sender, kind.in_fork), kind


def _compiled(path: str) -> Dict[str, Any]:
    """Whether a file that is run as a whole can be read and compiled; it is not run."""
    try:
        with open(path, "rb") as file:
            compile(file.read(), path, "exec", dont_inherit=True)
    except OSError as error:
        return {"problem": "{} cannot be read: {}".format(path, error.strerror)}
    except (SyntaxError, ValueError) as error:
        return {"problem": "{} is not Python {}.{}: {}".format(path, *sys.version_info[:2], error)}
    return {"problem": None}


def _signature(function: Callable[..., Any]) -> Dict[str, Any]:
    """The parameters that `function` can be given by name, and those that it must be given; nothing if not known."""
    import inspect

    try:
        # A wrapper may take more than what it wraps.
        parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
    except (TypeError, ValueError):
        return {}
    by_name = [one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    takes_any = any(one.kind == one.VAR_KEYWORD for one in parameters)
    names: List[str] = [one.name for one in by_name]
    described = [_described(one) for one in by_name]
    return {
        "parameters": None if takes_any else names,
        "required": [one.name for one in by_name if one.default is one.empty],
        "signature": described if len(json.dumps(described)) <= _MAX_DESCRIBED else [],
    }


def _described(parameter: Any) -> Dict[str, Any]:
    """What is known of an inspect.Parameter."""
    found = {
        "name": parameter.name,
        "annotation": "" if parameter.annotation is parameter.empty else _annotation(parameter.annotation),
        "required": parameter.default is parameter.empty,
    }
    default = parameter.default.value if isinstance(parameter.default, Enum) else parameter.default
    if default is None or (isinstance(default, (bool, int, float, str)) and len(str(default)) <= _MAX_CHARS):
        found["default"] = default
    return found


def _annotation(annotation: Any) -> str:
    """An annotation as source text; that of an Enum is a Literal of its values."""
    if isinstance(annotation, str):
        return annotation[:_MAX_ANNOTATION]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "Literal[{}]".format(", ".join(repr(member.value) for member in annotation))[:_MAX_ANNOTATION]
    # Not what a generic such as list[int] calls itself.
    text = annotation.__name__ if type(annotation) is type else repr(annotation)
    return text[:_MAX_ANNOTATION]


def _import_failed(error: BaseException) -> str:
    described = describe_exception(error)
    frames = traceback.extract_tb(user_frames(error.__traceback__))
    where = " ({}, line {})".format(frames[-1].filename, frames[-1].lineno) if frames else ""
    return "its import failed{}: {}: {}".format(where, described["type"], described["message"]).rstrip(": ")
