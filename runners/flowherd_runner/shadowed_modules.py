"""Lets a run import its own module although the fork server has loaded another one of the same name.

Flowherd itself imports modules of the standard library, such as `resource` or `selectors`. A file of that name beside
the user's code would never be looked for, because the name is in sys.modules already.
"""

import importlib.machinery
import os
import sys
from typing import FrozenSet, Iterable, Iterator, Optional

import flowherd_runner


def _startup_modules() -> FrozenSet[str]:
    """What an interpreter has loaded before any program begins, so that no file can shadow it in a script either."""
    found: Optional[FrozenSet[str]] = getattr(flowherd_runner, "STARTUP_MODULES", None)
    return found if found is not None else frozenset(sys.modules)


def uncover(paths: Iterable[str]) -> None:
    """Forget loaded modules if an interpreter without them would find others of these names in `paths`."""
    # Looked up in each, not in their union: making that would touch each name, and copy its memory in the fork.
    at_startup, builtin = _startup_modules(), sys.builtin_module_names
    for path in paths:
        for name in _names(path):
            is_fixed = name in at_startup or name in builtin
            if name in sys.modules and not is_fixed and _is_elsewhere(name, path):
                for loaded in [one for one in sys.modules if one == name or one.startswith(name + ".")]:
                    del sys.modules[loaded]


def _names(path: str) -> Iterator[str]:
    """Yield the names of the modules that may be in a directory."""
    try:
        entries = os.listdir(path)
    except OSError:
        return
    for entry in entries:
        name, dot, _ = entry.partition(".")
        if name.isidentifier() and (not dot or entry.endswith((".py", *importlib.machinery.EXTENSION_SUFFIXES))):
            yield name


def _is_elsewhere(name: str, path: str) -> bool:
    """Whether `path` has a module of that name, and the loaded one is another."""
    spec = importlib.machinery.PathFinder.find_spec(name, [path])
    if spec is None or spec.loader is None or spec.origin is None:
        return False
    loaded = getattr(sys.modules[name], "__file__", None)
    try:
        return loaded is None or not os.path.samefile(loaded, spec.origin)
    except OSError:
        return True
