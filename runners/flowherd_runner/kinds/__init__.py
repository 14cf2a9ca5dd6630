"""The kinds of run, by the name that spec.json gives them: a new one is a module here and a line in MODULES.

A module of kinds has a dictionary KINDS, from names to `definition.Kind`. It is imported when a run, or the fork
server, first needs it. A kind of another package is such a module too: spec.json gives the path of its file, so that
nothing of it needs to be installed in the interpreter of the run. The runner loads the file before it forks the flow
process: loading it must not start a thread, and heavy modules should be imported only when the kind is run.
"""

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any, Dict, Optional

from flowherd_runner.contract.variables import (
    KIND_COMMAND,
    KIND_PREFECT,
    KIND_PREFECT3,
    KIND_PREFECT3_COMMAND,
    KIND_PREFECT3_HOOKS,
    KIND_PYTHON,
)
from flowherd_runner.kinds.definition import Kind, NotStarted

#: The modules of the kinds that come with flowherd.
MODULES = {
    KIND_COMMAND: "flowherd_runner.kinds.command",
    KIND_PYTHON: "flowherd_runner.kinds.python",
    KIND_PREFECT: "flowherd_runner.kinds.prefect1.kind",
    KIND_PREFECT3: "flowherd_runner.kinds.prefect3.kind",
    KIND_PREFECT3_COMMAND: "flowherd_runner.kinds.prefect3.kind",
    KIND_PREFECT3_HOOKS: "flowherd_runner.kinds.prefect3.kind",
}
#: Name in sys.modules of a kind that was loaded from a file.
_LOADED_FROM_FILE = "flowherd_kind"


def load_kind(name: str, file: Optional[str] = None) -> Kind:
    """Return the kind of that name, from the module in `file` when there is one.

    Raises NotStarted when there is no such kind, or the file cannot be loaded.
    """
    if file is None and name not in MODULES:
        known = ", ".join(sorted(MODULES))
        raise NotStarted("runs of the kind {!r} are not known here, only {}".format(name, known))
    module: Any = importlib.import_module(MODULES[name]) if file is None else _load_file(file)
    kinds: Dict[str, Kind] = getattr(module, "KINDS", {})
    if name not in kinds:
        raise NotStarted("{} defines no kind {!r}, only {}".format(file, name, ", ".join(sorted(kinds)) or "none"))
    return kinds[name]


def load_plain_kinds() -> None:
    """Import the kinds that any fork server may be asked for, so that no run has to."""
    for name in (KIND_COMMAND, KIND_PYTHON):
        load_kind(name)


def _load_file(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(_LOADED_FROM_FILE, path)
    if spec is None or spec.loader is None:
        raise NotStarted("not a file that Python can load: {}".format(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[_LOADED_FROM_FILE] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise NotStarted("the kind in {} cannot be loaded: {}: {}".format(path, type(error).__name__, error)) from error
    return module
