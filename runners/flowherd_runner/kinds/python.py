"""A Python callable, run in the fork itself: "module:function" or "path/to/file.py:function"."""

import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any, Callable, NoReturn, Tuple

from flowherd_runner.errors import NotStarted
from flowherd_runner.inprocess import enter, run_and_exit
from flowherd_runner.kinds.flow import Flow
from flowherd_runner.logcapture import install


def run(flow: Flow) -> NoReturn:
    """Call the function with the run's parameters as keyword arguments. Raises NotStarted when it cannot be found."""
    ref = flow.spec.target.get("ref")
    where, name = parse_ref(ref)
    enter(flow, [where + ":" + name])
    install(flow.sender, flow.spec.log_level)
    run_and_exit(flow, lambda: find(where, name, flow)(**flow.spec.parameters))


def parse_ref(ref: object) -> Tuple[str, str]:
    """Module or file, and the function in it. Raises NotStarted."""
    where, colon, name = ref.rpartition(":") if isinstance(ref, str) else ("", "", "")
    if not (where and colon and name):
        raise NotStarted("not of the form module:function or path/to/file.py:function: {!r}".format(ref))
    return where, name


def find(where: str, name: str, flow: Flow) -> Callable[..., Any]:
    """The callable `name` of the module or file `where`; the flow's paths come first on sys.path.

    Raises NotStarted when there is none, and whatever the module's own code raises.
    """
    importlib.invalidate_caches()  # what the fork server knew of these directories may be long out of date
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


def _import_module(name: str, flow: Flow) -> ModuleType:
    sys.path[:0] = [flow.working_dir, *flow.spec.import_paths]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Only the module asked for, or a package above it; one that it imports is its own affair.
        if error.name and (name + ".").startswith(error.name + "."):
            raise NotStarted("no module named {} on {}".format(error.name, sys.path)) from None
        raise
    except (TypeError, ValueError) as error:
        if name.startswith(".") or not name:
            raise NotStarted("not the name of a module: {!r}".format(name)) from error
        raise


def _load_file(path: str, flow: Flow) -> ModuleType:
    """The module in the file, under its stem's name so that pickle, and so multiprocessing, find its functions."""
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
