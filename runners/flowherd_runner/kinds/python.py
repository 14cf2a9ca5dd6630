"""The kind "python": a function, called in the fork itself, or a file that is run there as the main module.

"module:function" and "path/to/file.py:function" do what `python -c 'import FILE; FILE.function(**parameters)'` does,
"path/to/file.py" what `python path/to/file.py` does.
"""

import builtins
import importlib
import importlib.machinery
import importlib.util
import io
import os
import sys
from types import ModuleType
from typing import Any, Callable, NoReturn, Tuple

from flowherd_runner.contract.variables import KIND_PYTHON
from flowherd_runner.flow_logging import install
from flowherd_runner.in_fork import enter, run_and_exit
from flowherd_runner.kinds.definition import FlowProcess, Kind, NotStarted
from flowherd_runner.shadowed_modules import uncover


def run(flow: FlowProcess) -> NoReturn:
    """Call the function with the run's parameters as keyword arguments, or run the file. Raises NotStarted."""
    prepare(flow)()


def prepare(flow: FlowProcess) -> Callable[[], NoReturn]:
    """Make the interpreter the run's, and return what runs the user's code. Raises NotStarted."""
    where, name = parse_ref(flow.spec.target.get("ref"))
    path = os.path.join(flow.working_dir, where)
    enter(flow, ["-c"] if name else [path])
    install(flow.sender, flow.spec.log_level)

    def call() -> NoReturn:
        importlib.invalidate_caches()  # what the fork server knew of the run's directories may be out of date
        if name:
            run_and_exit(flow, lambda: find(where, name, flow)(**flow.spec.parameters))
        run_and_exit(flow, lambda: _run_as_main(path, flow))

    return call


KINDS = {KIND_PYTHON: Kind(run, in_fork=True, prepare=prepare)}


def parse_ref(ref: object) -> Tuple[str, str]:
    """Return the module or file, and the function in it, which is empty for a whole file. Raises NotStarted."""
    if isinstance(ref, str) and ref.endswith(".py"):
        return ref, ""
    where, colon, name = ref.rpartition(":") if isinstance(ref, str) else ("", "", "")
    if not (where and colon and name):
        raise NotStarted(
            "not of the form module:function, path/to/file.py:function or path/to/file.py: {!r}".format(ref)
        )
    return where, name


def find(where: str, name: str, flow: FlowProcess) -> Callable[..., Any]:
    """Return the callable `name` of the module or file `where`; the flow's paths come first on sys.path.

    Raises NotStarted when there is none, and what the module's own code raises.
    """
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


def _put_on_path(directory: str, flow: FlowProcess) -> None:
    paths = [directory, *flow.spec.import_paths]
    sys.path[:0] = paths
    uncover(paths)


def _import_module(name: str, flow: FlowProcess) -> ModuleType:
    _put_on_path(flow.working_dir, flow)
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
    _check_file(path)
    _put_on_path(os.path.dirname(path), flow)
    stem = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(stem, path)
    if spec is None or spec.loader is None:
        raise NotStarted("not a file that Python can load: {}".format(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[stem] = module
    spec.loader.exec_module(module)
    return module


def _run_as_main(path: str, flow: FlowProcess) -> None:
    """Run the file as the interpreter runs the file that is its argument."""
    _check_file(path)
    # The interpreter takes the directory of the file that a link leads to.
    _put_on_path(os.path.dirname(os.path.realpath(path)), flow)
    namespace = vars(sys.modules["__main__"])
    loader = importlib.machinery.SourceFileLoader("__main__", path)
    namespace.update(__file__=path, __cached__=None, __loader__=loader, __builtins__=builtins)
    with getattr(io, "open_code", _open_source)(path) as file:  # since 3.8
        source = file.read()
    exec(compile(source, path, "exec", dont_inherit=True), namespace)  # noqa: S102 - this is what the run is


def _open_source(path: str) -> Any:
    return open(path, "rb")


def _check_file(path: str) -> None:
    if not os.path.isfile(path):
        raise NotStarted("no such file: {}".format(path))
