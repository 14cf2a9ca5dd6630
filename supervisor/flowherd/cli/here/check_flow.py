"""Whether a flow that is to be registered could be started on this host: what can be found out without running it."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from flowherd.cli.here.child import child_program, isolation_problems, spec_of_flow
from flowherd.cli.here.kept_definitions import Definition
from flowherd.client.signature import signature_from
from flowherd.config import LoadedSettings
from flowherd.engines.run_config import strings_by_name
from flowherd.errors import UnsupportedStorage
from flowherd.parameter_names import complaints
from flowherd.parameter_types import Parameter
from flowherd_runner.contract.reasons import FORK_SERVER_BROKEN

#: How long an import may take, seconds.
IMPORT_S = 60.0
_MAX_ANSWER = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was found out about a flow."""

    #: Why its runs would fail, a sentence each.
    problems: Sequence[str] = ()
    #: Names of all parameters that its function takes; None if they are not known, or it takes any.
    parameters: Sequence[str] | None = None
    #: The same with their types, of a function that was imported.
    signature: Sequence[Parameter] = ()
    #: What could not be checked, and why; empty if everything was.
    unchecked: str = ""


def check_flow(
    definition: Definition, loaded: LoadedSettings, *, is_scheduled: bool, import_s: float = IMPORT_S
) -> Checked:
    """Check a flow that is to run on this host. A function's module is imported, in a process of its own."""
    config = definition.run_config or {}
    user, directory = config.get("user"), config.get("working_dir")
    problems = [*_user_problems(user), *_directory_problems(directory), *isolation_problems(definition, loaded)]
    if problems:
        return Checked(problems=problems)
    if definition.storage["type"] == "Command":
        return Checked(problems=_program_problems(definition, directory))
    if user is not None and os.geteuid() not in (0, pwd.getpwnam(user).pw_uid):
        return Checked(unchecked=f"only root can import it as user {user}")
    found = _ask(definition, loaded, import_s)
    if found["problem"]:
        return Checked(problems=[_about(definition.storage["ref"], found["problem"])])
    names: Sequence[str] | None = found["parameters"]
    missing = [name for name in found["required"] if name not in definition.defaults] if is_scheduled else []
    needed = [
        f"the schedule gives no value for the parameter {name!r}; give one with -p {name}=..." for name in missing
    ]
    problems = [*complaints(definition.defaults, names), *needed]
    return Checked(problems=problems, parameters=names, signature=signature_from(found["signature"]))


def _user_problems(user: str | None) -> list[str]:
    try:
        if user is not None:
            pwd.getpwnam(user)
    except KeyError:
        return [f"there is no user {user} on this host"]
    return []


def _directory_problems(directory: str | None) -> list[str]:
    return [] if directory is None or Path(directory).is_dir() else [f"there is no directory {directory} on this host"]


def _program_problems(definition: Definition, directory: str | None) -> list[str]:
    program: str = definition.storage["argv"][0]
    for name, value in definition.defaults.items():
        program = program.replace(f"{{{name}}}", value) if isinstance(value, str) else program
    if re.search(r"\{[^{}]+\}", program):  # a parameter that each run gives
        return []
    if "/" in program:
        path = Path(directory or ".") / program
        if not path.is_file():
            return [f"there is no file {path}"]
        return [] if os.access(path, os.X_OK) else [f"{path} is not executable; `chmod +x` makes it so"]
    chosen = strings_by_name((definition.run_config or {}).get("env")).get("PATH")
    where = "this PATH" if chosen is None else f"the PATH {chosen}"
    return [] if shutil.which(program, path=chosen) else [f"there is no program {program} on {where}"]


def _about(ref: str, problem: str) -> str:
    """Return what is wrong with a reference, and for a module that is a file here what to write."""
    problem, is_missing, _ = problem.partition(" on [")  # the whole sys.path of the child, which is not this one
    where, _, name = ref.partition(":")
    file = Path(where.replace(".", "/") + ".py")
    if is_missing and file.is_file():
        return f"{ref}: {problem} on its path; to run the file {file} write {file}:{name}"
    return problem if problem.startswith(ref) else f"{ref}: {problem}" + (" on its path" if is_missing else "")


def _ask(definition: Definition, loaded: LoadedSettings, import_s: float) -> Mapping[str, Any]:
    """Return what the child side finds: see without_runner.py there."""
    try:
        spec = spec_of_flow(definition, {}, loaded, "check")
    except UnsupportedStorage as error:
        return {"problem": str(error)}
    # What only the agent's user can read is not missed here.
    readable = {name: source for name, source in spec.secrets.items() if _is_readable(source)}
    spec = spec._replace(secrets=readable, env_files=tuple(filter(_is_file, spec.env_files)))
    reading, writing = os.pipe()
    with (
        os.fdopen(reading, "rb") as answer,
        tempfile.TemporaryFile() as errors,
        child_program(spec, "check", "--fd", str(writing)) as (argv, environment),
    ):
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=environment,
                pass_fds=[writing],
                start_new_session=True,
            )
        except OSError as error:
            return {"problem": f"{argv[0]} cannot be started: {error.strerror}"}
        finally:
            os.close(writing)
        try:
            code = process.wait(import_s)
        except subprocess.TimeoutExpired:
            return {"problem": f"its import took longer than {import_s:g} s"}
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return _understood(answer.read(_MAX_ANSWER), errors, code)


def _understood(answer: bytes, errors: BinaryIO, code: int) -> Mapping[str, Any]:
    if answer:
        return json.loads(answer)  # type: ignore[no-any-return]
    errors.seek(0)
    lines = errors.read(_MAX_ANSWER).decode("utf-8", "replace").strip().splitlines() or ["no message"]
    if code == FORK_SERVER_BROKEN:
        return {"problem": lines[-1]}
    return {"problem": f"its import ended the interpreter (exit code {code}): {lines[-1]}"}


def _is_readable(source: str) -> bool:
    kind, _, place = source.partition(":")
    return place in os.environ if kind == "env" else _is_file(place)


def _is_file(path: str) -> bool:
    place = Path(path).expanduser()
    return place.is_file() and os.access(place, os.R_OK)
