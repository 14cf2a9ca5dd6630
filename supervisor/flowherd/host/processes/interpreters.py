"""Finds the Python interpreter that a setting names, and starts it once to check that it can serve runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowherd.errors import DeployError
from flowherd.host.processes.flock import start_program

#: Oldest Python whose grammar the child side is written in.
LEAST_VERSION = (3, 7)
#: How long to wait for an interpreter's answer, seconds.
_ANSWER_TIMEOUT_S = 30.0
#: Interpreters that are being asked now.
_ASKED: set[subprocess.Popen[bytes]] = set()
#: Valid in any Python since 2.6. Removes the current directory from the path, as fork servers do.
_QUESTION = """
import json, sys
package = sys.argv[1]
sys.path[:] = [path for path in sys.path if path]
try:
    from importlib.util import find_spec
    found = bool(package) and find_spec(package) is not None
except Exception:
    found = False
try:
    from importlib.metadata import version
    installed = version(package) if found else None
except Exception:
    installed = None
print(json.dumps({"version": list(sys.version_info[:3]), "found": found, "installed": installed}))
"""


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """A Python interpreter that was started and answered."""

    program: str
    version: tuple[int, int, int]
    #: Whether the package that was asked for can be found; whether it can be imported is another question.
    has_package: bool
    #: Version of the package; None if unknown, as under Python 3.7 and for a package that was copied there by hand.
    package_version: str | None = None


def program_of(interpreter: str) -> str:
    """Return the program that `interpreter` names: a path, a name on PATH, or the directory of a virtual environment.

    Links are not resolved, because a Python finds its virtual environment by the path of the link.
    """
    path = Path(interpreter).expanduser()
    if path.is_dir():
        return str((path / "bin" / "python").absolute())
    if os.sep not in interpreter:
        return shutil.which(interpreter) or interpreter
    return str(path.absolute())


def ask(interpreter: str, env: Mapping[str, str], package: str | None = None) -> Interpreter:
    """Start the interpreter once, and return what it is and whether it has `package`.

    Raises DeployError, with what to do, when it cannot serve runs.
    """
    program = program_of(interpreter)
    try:
        output = output_of([program, "-c", _QUESTION, package or ""], env)
        answer = json.loads(output.splitlines()[-1])
        first, second, third = answer["version"]
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode("utf-8", "replace").strip().splitlines() or ["it printed no error"]
        raise DeployError(f"{program} does not work (exit code {error.returncode}): {lines[-1]:.300}") from error
    except OSError as error:
        raise DeployError(f"{program} cannot be started: {error.strerror or error}; {_what_to_do(program)}") from error
    except (subprocess.TimeoutExpired, ValueError, LookupError, TypeError) as error:
        raise DeployError(f"{program} does not answer as a Python: {error!r:.200}") from error
    if (first, second) < LEAST_VERSION:
        least = ".".join(map(str, LEAST_VERSION))
        raise DeployError(f"{program} is Python {first}.{second}, too old: flowherd's runners need {least} or newer")
    return Interpreter(
        program=program,
        version=(first, second, third),
        has_package=bool(answer["found"]),
        package_version=answer.get("installed"),
    )


def end_questions() -> None:
    """Kill the interpreters that are being asked now, because nobody waits for the answers any more."""
    for process in list(_ASKED):
        process.kill()


def output_of(argv: Sequence[str], env: Mapping[str, str]) -> bytes:
    """Run a program and return what it prints. Raises OSError, and what subprocess.run(check=True) raises."""
    with start_program(argv, env=env, output=subprocess.PIPE) as process:
        _ASKED.add(process)
        try:
            output, errors = process.communicate(timeout=_ANSWER_TIMEOUT_S)
        except BaseException:
            process.kill()
            raise
        finally:
            _ASKED.discard(process)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, argv, output, errors)
    return output


def _what_to_do(program: str) -> str:
    return f"name a Python, or the directory of a virtual environment (`python3 -m venv` makes one), not {program}"
