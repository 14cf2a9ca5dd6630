"""The document that registers a flow: what to run, where and how, in the shape of the dialect (docs/dialect.md).

Sends nothing. Checks early what can be checked without running any of the user's code.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowherd import __version__
from flowherd.client.signature import keyword_names, signature_of
from flowherd.errors import InvalidRequest, NotFound
from flowherd.parameter_types import signature_entry

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True, kw_only=True)
class HowToRun:
    """What the runs of a flow get; all of it becomes the document's run_config."""

    labels: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    #: Files with more variables, and where secret ones are read from: "file:PATH" or "env:VARIABLE".
    env_files: Sequence[str] = ()
    secrets: Mapping[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    interpreter: str | None = None
    preload: Sequence[str] = ()
    #: Limits by their keys in the run directory's spec.json.
    limits: Mapping[str, float | int] = field(default_factory=dict)
    #: Weights by their names (flowherd/weights.py).
    weights: Mapping[str, float | str] = field(default_factory=dict)
    grace_s: float | None = None
    user: str | None = None
    #: What keeps the runs apart (flowherd/isolation/levels.py).
    isolation: Mapping[str, Any] = field(default_factory=dict)
    #: Name of the root logger's level, for Python code.
    log_level: str | None = None


def flow_document(
    name: str,
    storage: Mapping[str, Any],
    how: HowToRun,
    parameters: Mapping[str, Any],
    schedule: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the document of one flow, without tasks: the whole flow is one piece of work."""
    return {
        "name": name,
        "type": "flowherd.Flow",
        "schedule": schedule,
        "parameters": [_parameter(key, value) for key, value in parameters.items()],
        "tasks": [],
        "edges": [],
        "reference_tasks": [],
        "storage": {**storage, "__version__": __version__},
        "run_config": _run_config(how),
        "__version__": __version__,
    }


def command_storage(argv: Sequence[str]) -> dict[str, Any]:
    """Return the storage of a command."""
    return {"type": "Command", "argv": list(argv)}


def python_storage(ref: str, directory: Path, *, check: bool = True) -> dict[str, Any]:
    """Return the storage of a Python callable, "module:function" or "path/file.py:function", or of a file to run.

    It names the parameters of a function in a file, unless it takes any (parameter_names.py), and has their types
    (parameter_types.py). A path is relative to `directory`. Raises InvalidRequest if the reference is malformed, and
    with `check` if the file is not Python; NotFound with `check` if there is no such file, or no such function in it.
    """
    if ref.endswith(".py"):
        path = directory / ref
        if check:
            _parse_file(path)
        return {"type": "Python", "ref": str(path)}
    place, colon, function = ref.rpartition(":")
    if not colon or not function.isidentifier():
        forms = "module:function, path/to/file.py:function or path/to/file.py"
        raise InvalidRequest(f"{ref!r} is not a reference to Python code; write it as {forms}")
    if "/" in place or place.endswith(".py"):
        path = directory / place
        return {"type": "Python", "ref": f"{path}:{function}", **_parameters_of(path, function, check)}
    if not _MODULE.fullmatch(place):
        raise InvalidRequest(
            f"{ref!r} is not a reference to Python code: {place!r} is neither the name of a module nor a .py file"
        )
    return {"type": "Python", "ref": ref}


def is_file_reference(storage: Mapping[str, Any]) -> bool:
    """Return whether a Python storage refers to a file."""
    return str(storage.get("ref", "")).startswith("/")


def _parameter(name: str, default: Any) -> dict[str, Any]:
    kind = "prefect.core.parameter.Parameter"
    return {
        "name": name,
        "slug": name,
        "default": default,
        "required": False,
        "tags": [],
        "outputs": "Any",
        "type": kind,
    }


def _run_config(how: HowToRun) -> dict[str, Any]:
    ours = {
        "interpreter": how.interpreter,
        "preload": list(how.preload) or None,
        "env_files": list(how.env_files) or None,
        "secrets": dict(how.secrets) or None,
        "limits": dict(how.limits) or None,
        "weights": dict(how.weights) or None,
        "grace_s": how.grace_s,
        "user": how.user,
        "isolation": dict(how.isolation) or None,
        "log_level": how.log_level,
    }
    return {
        "type": "LocalRun",
        "env": dict(how.env) or None,
        "labels": sorted(set(how.labels)),
        "working_dir": how.working_dir,
        **{key: value for key, value in ours.items() if value is not None},
        "__version__": __version__,
    }


def _parameters_of(path: Path, function: str, check: bool) -> dict[str, Any]:
    """Return what a storage says of a function's parameters: their names if all are known, and their types."""
    try:
        module = _checked_file(path, function)
    except (NotFound, InvalidRequest):
        if check:
            raise
        return {}
    names, signature = keyword_names(module, function), signature_of(module, function)
    return {**({} if names is None else {"parameters": names}), **signature_entry(signature)}


def _checked_file(path: Path, function: str) -> ast.Module:
    module = _parse_file(path)
    if function not in _top_level_names(module.body):
        raise NotFound(f"{path} defines no function {function}")
    return module


def _parse_file(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), str(path))
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}") from error
    except (SyntaxError, ValueError) as error:
        raise InvalidRequest(f"{path} is not Python: {error}") from error


def _top_level_names(body: Sequence[ast.stmt]) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in statement.names)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))
        else:  # if, try, with: their blocks may define the name
            for block in ("body", "orelse", "finalbody"):
                yield from _top_level_names(getattr(statement, block, []))
            for handler in getattr(statement, "handlers", []):
                yield from _top_level_names(handler.body)
