"""Whether the interpreter that runs supervisord can import flowherd's plugins, and the line that makes it able to.

supervisord does not start with a plugin that it cannot import, and neither does supervisorctl.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flowherd.supervisord.rpc import Access, SupervisordError, call

#: Name of the package with the plugins.
PACKAGE = "flowherd_supervisord"
_TIMEOUT_S = 20.0
#: Longest line with the name of an interpreter (execve(2)), bytes.
_SHEBANG_BYTES = 256
_IMPORT = f"import {PACKAGE}.rpc_methods, {PACKAGE}.control_command"
#: Directories that an interpreter imports from and that survive its upgrade within a minor version.
_WHERE = "import site; print('\\n'.join(site.getsitepackages()))"


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """The interpreter of a supervisord."""

    #: It and its options.
    argv: Sequence[str]
    #: How it was found, for messages.
    found_by: str
    #: Variables that the interpreter reads.
    variables: Mapping[str, str] = field(default_factory=dict)
    #: User id of the supervisord that runs; None if none runs.
    uid: int | None = None

    def run(self, code: str) -> subprocess.CompletedProcess[str]:
        """Run Python code in it, in / and with no more of this environment than it needs. Raises SupervisordError."""
        env = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONDONTWRITEBYTECODE": "1", **self.variables}
        argv = [*self.argv, "-c", code]
        try:
            return subprocess.run(
                argv, cwd="/", env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SupervisordError(f"{shlex.join(self.argv)} cannot be run: {error}") from error

    def __str__(self) -> str:
        return f"{shlex.join(self.argv)} ({self.found_by})"


def interpreter_of(access: Access | None) -> Interpreter:
    """Return the interpreter of the supervisord that answers there, else of the one that a shell would start.

    Raises SupervisordError if there is none.
    """
    found = None if access is None else _running(access)
    beside = Path(sys.executable).with_name("supervisord")
    program = shutil.which("supervisord") or (str(beside) if beside.exists() else None)
    if found is None and program is not None:
        found = _of_script(Path(program))
    if found is None:
        raise SupervisordError(
            "no supervisord answers, and there is none in PATH or beside flowherd; name its interpreter with "
            "--supervisor-python"
        )
    return found


def named(python: str) -> Interpreter:
    """Return the interpreter that a person names."""
    path = Path(python).expanduser()
    return Interpreter(argv=[str(path.absolute()) if path.parent.name else python], found_by="--supervisor-python")


def import_problem(interpreter: Interpreter) -> str:
    """Return why the plugins cannot be imported, in a line; empty if they can. Raises SupervisordError."""
    done = interpreter.run(_IMPORT)
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"it exited with code {done.returncode}"


def importable_line(interpreter: Interpreter) -> str:
    """Return the command that makes the plugins importable for the interpreter. Raises SupervisordError.

    It makes a link, or a copy if others than the user of supervisord could change what the link leads to.
    """
    done = interpreter.run(_WHERE)
    places = [Path(line) for line in done.stdout.splitlines() if line]
    if done.returncode or not places:
        raise SupervisordError(f"{interpreter} names no directory for packages: {done.stderr.strip()[-200:]}")
    target = next((place for place in places if place.is_dir()), places[0]) / PACKAGE
    source = package_directory()
    how = "cp -rT" if interpreter.uid is not None and may_be_changed_by_others(source, interpreter.uid) else "ln -sT"
    return f"{how} {shlex.quote(str(source))} {shlex.quote(str(target))}"


def imported_from(interpreter: Interpreter) -> Path | None:
    """Return the directory from which the interpreter imports the plugins, links resolved; None if it does not."""
    done = interpreter.run(f"import {PACKAGE}; print({PACKAGE}.__file__)")
    text = done.stdout.strip()
    return Path(text).resolve().parent if done.returncode == 0 and text else None


def package_directory() -> Path:
    """Return where the plugins of this installation are. Raises SupervisordError."""
    import importlib.util

    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise SupervisordError(f"this installation of flowherd lacks {PACKAGE}; reinstall flowherd")
    return Path(found.origin).parent


def may_be_changed_by_others(directory: Path, uid: int) -> bool:
    """Return whether other users than root and `uid` could change files in a directory, or put another in its place."""
    for place in (directory, *directory.parents):
        status = place.stat()
        is_sticky = bool(status.st_mode & stat.S_ISVTX) and place != directory
        if status.st_uid not in (0, uid) or (status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not is_sticky):
            return True
    return False


def pid_of(access: Access) -> int | None:
    """Return the pid of the supervisord there if it runs on this host. Raises SupervisordError if none answers."""
    pid = call(access, "getPID")
    words = command_line(pid) if isinstance(pid, int) else []
    return pid if any("supervisord" in word for word in words) else None


def _running(access: Access) -> Interpreter | None:
    try:
        pid = pid_of(access)
        if pid is None:
            return None
        uid = Path(f"/proc/{pid}").stat().st_uid
        exe = str(Path(f"/proc/{pid}/exe").readlink())
    except (SupervisordError, OSError):
        return None
    words = command_line(pid)
    # The python of a virtual environment is a link to one outside the environment: its own name counts.
    first = words[0] if Path(words[0]).is_absolute() and os.path.realpath(words[0]) == os.path.realpath(exe) else exe
    return Interpreter(
        argv=[first, *_options(words[1:])],
        found_by=f"it runs the supervisord with pid {pid}",
        variables=_python_variables(pid),
        uid=uid,
    )


def _of_script(script: Path) -> Interpreter | None:
    try:
        with script.open("rb") as file:
            line = file.readline(_SHEBANG_BYTES)
    except OSError:
        return None
    words = line[2:].decode("utf-8", "replace").split()
    if not line.startswith(b"#!") or not words:
        return Interpreter(argv=[sys.executable], found_by="flowherd's own; supervisor is installed beside it")
    if Path(words[0]).name == "env":
        words = [shutil.which(words[-1]) or words[-1]]
    return Interpreter(argv=[words[0], *_options(words[1:])], found_by=f"it runs {script}")


def _options(words: Sequence[str]) -> list[str]:
    """Return the options of the interpreter itself at the beginning of a command line."""
    found = []
    for word in words:
        if not word.startswith("-") or word in ("-m", "-c", "-"):
            break
        found.append(word)
    return found


def command_line(pid: int) -> list[str]:
    """Return the words of a process's command line; empty if it cannot be read."""
    try:
        data = Path(f"/proc/{pid:d}/cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(word) for word in data.split(b"\0")[:-1]]


def _python_variables(pid: int) -> dict[str, str]:
    try:
        data = Path(f"/proc/{pid:d}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (os.fsdecode(item).partition("=") for item in data.split(b"\0"))
    return {name: value for name, _, value in pairs if name.startswith("PYTHON") and value}
