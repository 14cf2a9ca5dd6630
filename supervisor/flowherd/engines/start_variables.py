"""Variables that a process reads once, when it starts: a fork of a process that has started would not see them.

Runs that set them differently from the agent are forked from a fork server that was started with them. All others are
adopted in the fork itself (flowherd_runner/in_fork.py), also PYTHONPATH and TZ.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Beginnings of the names that an interpreter, the dynamic linker (ld.so(8)), the C library (mallopt(3), locale(7)) and
#: OpenSSL read.
_AT_START = ("PYTHON", "LD_", "MALLOC_", "GLIBC_TUNABLES", "LC_", "OPENSSL_")
#: Whole names of the same kind.
_NAMES_AT_START = frozenset({"LANG", "LOCPATH", "TZDIR", "GCONV_PATH"})
#: Python reads these later, or the fork adopts them itself.
_READ_LATER = frozenset({"PYTHONPATH", "PYTHONASYNCIODEBUG", "PYTHONBREAKPOINT", "PYTHONSTARTUP", "PYTHON_COLORS"})
#: Beginnings of the names that libraries for numerical work read when they are loaded, which preloading does.
_AT_LOAD = ("OMP_", "GOMP_", "KMP_", "OPENBLAS_", "GOTO_", "MKL_", "BLIS_", "NUMEXPR_", "NUMBA_", "VECLIB_")


def start_variables(env: Mapping[str, str], base: Mapping[str, str], preloads: bool) -> tuple[tuple[str, str], ...]:
    """Return those variables of a run that its fork server must be started with, because `base` has them otherwise.

    `env` are the variables that the run sets, `base` is the environment of a fork server of no particular environment.
    `preloads` says whether it imports modules before the fork.
    """
    return tuple(
        sorted(
            (name, value)
            for name, value in env.items()
            if is_read_at_start(name, preloads) and base.get(name) != value and "\0" not in name + value
        )
    )


def is_read_at_start(name: str, preloads: bool) -> bool:
    """Return whether a process reads this variable once, when it starts or when it imports what is preloaded."""
    if name in _READ_LATER:
        return False
    return name.startswith(_AT_START) or name in _NAMES_AT_START or (preloads and name.startswith(_AT_LOAD))
