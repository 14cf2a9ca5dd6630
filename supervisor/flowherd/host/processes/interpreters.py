"""Other Pythons of this host: which program a setting means, and whether it can serve runs. Starts it once to ask."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flowherd.errors import DeployError

#: The child side's grammar.
LEAST_VERSION = (3, 7)
_ANSWER_TIMEOUT_S = 30.0
#: Read by any Python since 2.6. Without the current directory on its path, as a fork server has it.
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
    """A Python that was started and answered."""

    program: str
    version: tuple[int, int, int]
    #: Whether the package that was asked for can be found; whether it can be imported is another question.
    has_package: bool
    #: Its version; None when it is not known, as under Python 3.7 and for a package that was put there by hand.
    package_version: str | None = None


def program_of(interpreter: str) -> str:
    """The program that `interpreter` means: itself, what it is on PATH, or the python of that virtual environment.

    Never resolved further: by the path of the link a Python knows which virtual environment it is of.
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
        said = subprocess.run(
            [program, "-c", _QUESTION, package or ""],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ANSWER_TIMEOUT_S,
            check=True,
        ).stdout
        answer = json.loads(said.splitlines()[-1])
        first, second, third = answer["version"]
    except subprocess.CalledProcessError as error:
        words = error.stderr.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        raise DeployError(f"{program} does not work (exit code {error.returncode}): {words[-1]:.300}") from error
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


def _what_to_do(program: str) -> str:
    return f"name a Python, or the directory of a virtual environment (`python3 -m venv` makes one), not {program}"
