"""Entry program of the child side, run by absolute path in the interpreter that the flow needs:

    python /path/to/flowherd_runner/boot.py forkserver --fd N [--secrets-fd N] [--preload MODULE]...
    python /path/to/flowherd_runner/boot.py runner --directory DIRECTORY --lock-fd N
    python /path/to/flowherd_runner/boot.py here --directory DIRECTORY
    python /path/to/flowherd_runner/boot.py check --directory DIRECTORY --fd N
    python /path/to/flowherd_runner/boot.py isolation --directory DIRECTORY --fd N

Nothing of flowherd is installed in that interpreter, and the directory that holds this package may be the agent's own
site-packages. So the package is loaded from the directory of this file, and nothing is put on sys.path. Only this file
can be read by interpreters that are too old, so that they can report it.
"""

import sys

#: What the interpreter has loaded before this program: see shadowed_modules.py.
_STARTUP_MODULES = frozenset(sys.modules)

#: contract.reasons.FORK_SERVER_BROKEN; that module cannot be loaded by an interpreter that is too old.
_FORK_SERVER_BROKEN = 71


def load_package():
    # type: () -> None
    """Make `flowherd_runner` importable, and nothing else that is in the same directory."""
    import importlib.util
    import os

    here = os.path.dirname(os.path.abspath(__file__))
    spec = importlib.util.spec_from_file_location(
        "flowherd_runner", os.path.join(here, "__init__.py"), submodule_search_locations=[here]
    )
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    setattr(package, "STARTUP_MODULES", _STARTUP_MODULES)  # noqa: B010
    sys.modules["flowherd_runner"] = package
    spec.loader.exec_module(package)


def main():
    # type: () -> None
    """Run the program that the arguments name. Never returns."""
    # Python puts this file's directory first, and our modules there would hide others of the same names.
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        del sys.path[0]
    load_package()
    from flowherd_runner.programs import run_program

    run_program(sys.argv[1:])


# Guarded because multiprocessing's spawn imports the main module of its parent.
if __name__ == "__main__":
    if sys.version_info < (3, 7):
        sys.stderr.write(
            "flowherd needs Python 3.7 or newer, %s is %d.%d\n" % ((sys.executable,) + sys.version_info[:2])
        )
        sys.exit(_FORK_SERVER_BROKEN)
    main()
