"""Says in one sentence what flowherd needs, and ends or refuses the import, where it cannot run.

The package imports this first. Python 3.6 and newer can read both, so that they say so instead of a syntax error.
"""

import sys

#: The lowest version of Python, as setup.py has it. A name, because checkers would take a comparison with a literal
#: for one that is always true.
LOWEST_PYTHON = (3, 10)
#: Exit code of a command that must not be tried again without a change; as in flowherd.cli.exit_codes.
_EXIT_CODE = 2


def what_is_needed() -> str:
    """Return what is needed and what is here, in one sentence; empty if flowherd can run here."""
    if sys.version_info >= LOWEST_PYTHON and sys.platform == "linux":
        return ""
    needed = "flowherd needs Linux and Python {}.{} or newer".format(*LOWEST_PYTHON)
    return "{}; this is Python {}.{}.{} on {}".format(needed, *sys.version_info[:3], sys.platform)


def _is_own_program() -> bool:
    """Return whether the interpreter was started for flowherd: `-m` is still in place of a path then."""
    program = sys.argv[0] if sys.argv else ""
    return program in ("-m", "flowherd") or program.endswith(("/flowherd", "/flowherd/__main__.py"))


_SENTENCE = what_is_needed()
if _SENTENCE and _is_own_program():
    sys.stderr.write(_SENTENCE + "\n")
    sys.exit(_EXIT_CODE)
if _SENTENCE:
    raise ImportError(_SENTENCE)
