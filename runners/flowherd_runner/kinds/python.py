"""The kind "python": a function, called in the fork itself: "module:function" or "path/to/file.py:function"."""

import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any, Callable, NoReturn, Tuple

from flowherd_runner.contract.variables import KIND_PYTHON
from flowherd_runner.in_fork import enter, run_and_exit
from flowherd_runner.kinds.definition import FlowProcess, Kind, NotStarted
from flowherd_runner.record_sender import install


def run(flow: FlowProcess) -> NoReturn:
    """Call the function with the run's parameters as keyword arguments. Raises NotStarted when it cannot be found."""
    ref = flow.spec.target.get("ref")
    where, name = parse_ref(ref)
    enter(flow, [where + ":" + name])
    install(flow.sender, flow.spec.log_level)
    run_and_exit(flow, lambda: find(where, name, flow)(**flow.spec.parameters))


KINDS = {KIND_PYTHON: Kind(run, in_fork=True)}


def parse_ref(ref: object) -> Tuple[str, str]:
    """Return the module or file, and the function in it. Raises NotStarted."""
    where, colon, name = ref.rpartition(":") if isinstance(ref, str) else ("", "", "")
    if not (where and colon and name):
        raise NotStarted("not of the form module:function or path/to/file.py:function: {!r}".format(ref))
    return where, name


def find(where: str, name: str, flow: FlowProcess) -> Callable[..., Any]:
    """Return the callable `name` of the module or file `where`; the flow's paths come first on sys.path.

    Raises NotStarted when there is none, and what the module's own code raises.
    """
    importlib.invalidate_caches()  # what the fork server knew of these directories may be out of date
    if where.endswith(".py") or os.sep in where:
        module = _load_file(os.path.join(flow.working_dir, where), flow)
    else:
        module = _import_module(where, flow)
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise NotStarted("{} has no {}".format(where, name)) from None
    if not callable(found):
        raise NotStarted("{}:{} is not callable".format(where, name))
    return found  # type: ignore[no-any-return]


def _import_module(name: str, flow: FlowProcess) -> ModuleType:
    sys.path[:0] = [flow.working_dir, *flow.spec.import_paths]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Only for the module itself, or a package above it; a module that it imports is missing in the user's code.
        if error.name and (name + ".").startswith(error.name + "."):
            raise NotStarted("no module named {} on {}".format(error.name, sys.path)) from None
        raise
    except (TypeError, ValueError) as error:
        if name.startswith(".") or not name:
            raise NotStarted("not the name of a module: {!r}".format(name)) from error
        raise


def _load_file(path: str, flow: FlowProcess) -> ModuleType:
    """Load the file as a module named by its stem, so that pickle, and with it multiprocessing, finds its functions."""
    if not os.path.isfile(path):
        raise NotStarted("no such file: {}".format(path))
    sys.path[:0] = [os.path.dirname(path), *flow.spec.import_paths]
    stem = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(stem, path)
    if spec is None or spec.loader is None:
        raise NotStarted("not a file that Python can load: {}".format(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[stem] = module
    spec.loader.exec_module(module)
    return module
