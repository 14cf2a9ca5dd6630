"""The kind "command": a program with arguments, run without a shell and found on the run's own PATH."""

import errno
import json
import os
import re
from functools import partial
from typing import Any, Callable, Dict, List, Mapping, NoReturn, Sequence

from flowherd_runner.contract.variables import KIND_COMMAND
from flowherd_runner.kinds.definition import FlowProcess, Kind, NotStarted

_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


def run(flow: FlowProcess) -> NoReturn:
    """Become the command. Raises NotStarted when there is none or it cannot be started."""
    prepare(flow)()


def prepare(flow: FlowProcess) -> Callable[[], NoReturn]:
    """Return what becomes the command. Raises NotStarted when there is none."""
    argv = [substitute(argument, flow.spec.parameters) for argument in argv_of(flow.spec.target)]
    return partial(become, argv, command_environment(flow.environment, flow.spec.import_paths))


KINDS = {KIND_COMMAND: Kind(run, in_fork=False, prepare=prepare)}


def become(argv: List[str], environment: Mapping[str, str]) -> NoReturn:
    """Become that program. Raises NotStarted, with the reason, when it cannot be started."""
    try:
        os.execvpe(argv[0], argv, environment)
    except (OSError, ValueError) as error:
        raise NotStarted(_why(argv[0], error)) from error


def argv_of(target: Mapping[str, Any]) -> List[str]:
    """Return the words of the command. Raises NotStarted when there are none."""
    argv = target.get("argv")
    if not isinstance(argv, list) or not argv or not all(isinstance(argument, str) for argument in argv) or not argv[0]:
        raise NotStarted("the command is not a list of arguments that begins with a program: {!r}".format(argv))
    return argv


def substitute(argument: str, parameters: Mapping[str, Any]) -> str:
    """Replace each {name} that names a parameter by its value: a string unchanged, everything else as JSON."""

    def value(match: "re.Match[str]") -> str:
        if match.group(1) not in parameters:
            return match.group(0)
        parameter = parameters[match.group(1)]
        return parameter if isinstance(parameter, str) else json.dumps(parameter)

    return _PLACEHOLDER.sub(value, argument)


def command_environment(environment: Mapping[str, str], import_paths: Sequence[str]) -> Dict[str, str]:
    """Return the environment of a command that may be a Python program: with the import paths, and unbuffered."""
    composed = dict(environment)
    composed.setdefault("PYTHONUNBUFFERED", "1")
    if import_paths:
        paths = [*import_paths, composed["PYTHONPATH"]] if composed.get("PYTHONPATH") else import_paths
        composed["PYTHONPATH"] = os.pathsep.join(paths)
    return composed


def _why(program: str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        if os.sep in program and os.path.exists(program):
            return "cannot start {}: the interpreter that its first line names does not exist".format(program)
        return "no such program: {}".format(program)
    if isinstance(error, OSError) and error.errno == errno.E2BIG:
        return "cannot start {}: its arguments and environment together are too large".format(program)
    return "cannot start {}: {}".format(program, error.strerror if isinstance(error, OSError) else error)
