"""Runs one script by plain CPython and as a flow, and makes what was observed of both comparable.

A script is a section of a file in scripts/: it begins with a line `### name`, and may have directives in the comments
that follow: `# main` runs it as the main module, `# file NAME: TEXT` is a file beside it, `# preload: a, b` names
modules for the fork server that preloads, `# since: 3.9` is the first Python that can run it, `# unordered` compares
the lines of each stream as a set. All others define a function `main`. Each runs in a directory of its own, with an
empty directory for temporary files.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flowherd_runner.contract.journal import STREAM_NAMES
from tests.support.runner import ForkServer, Run, interpreters

SCRIPTS = Path(__file__).parent / "scripts"
_DEADLINE_S = 30.0
#: Frames and notes of an exception that only one of the two can have.
_COMMAND_FRAME = re.compile(r'  File "<string>", line 1, in <module>\n(    import script_.*\n)?([ ~^]+\n)?')
_ADDRESS = re.compile(r"0x[0-9a-f]+")


@dataclass(frozen=True, kw_only=True)
class Script:
    """One script of the suite."""

    name: str
    code: str
    as_main: bool
    preload: tuple[str, ...]
    since: tuple[int, int]
    ordered: bool

    @property
    def module(self) -> str:
        return f"script_{self.name}"


@dataclass(frozen=True)
class Observed:
    """What can be seen from outside of a program that has ended."""

    exit_code: int
    stdout: list[str]
    stderr: list[str]
    files: dict[str, bytes] = field(repr=False)
    temporary_files: list[str]


def all_scripts() -> list[Script]:
    """Every script, by the files and in their order."""
    return [script for path in sorted(SCRIPTS.glob("*.txt")) for script in _sections(path.read_text())]


def _sections(text: str) -> list[Script]:
    parts = re.split(r"^### (\w+)\n", text, flags=re.MULTILINE)
    return [_script(name, code) for name, code in zip(parts[1::2], parts[2::2], strict=True)]


def _script(name: str, code: str) -> Script:
    found = dict(re.findall(r"^# (main|preload|since|unordered)(?:: (.*))?$", code, flags=re.MULTILINE))
    major, minor = found.get("since", "3.8").split(".")
    return Script(
        name=name,
        code=code,
        as_main="main" in found,
        preload=tuple(part.strip() for part in found.get("preload", "").split(",") if part.strip()),
        since=(int(major), int(minor)),
        ordered="unordered" not in found,
    )


class Stage:
    """The directories in which the scripts run, once by CPython and once as a flow."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def directory(self, script: Script, way: str) -> Path:
        directory = self.place / way / script.name
        (directory / "tmp").mkdir(parents=True)
        (directory / f"{script.module}.py").write_text(script.code)
        for name, text in re.findall(r"^# file (\S+): (.*)$", script.code, flags=re.MULTILINE):
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_text(text + "\n")
        return directory

    def by_python(self, python: str, script: Script) -> Observed:
        """Run the script as its users would: `python FILE.py`, or `python -c 'import FILE; FILE.main()'`."""
        directory = self.directory(script, "python")
        call = [str(directory / f"{script.module}.py")]
        if not script.as_main:
            call = ["-c", f"import {script.module}; {script.module}.main()"]
        environment = {**os.environ, "TMPDIR": str(directory / "tmp")}
        done = subprocess.run(
            [python, *call],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_DEADLINE_S,
            check=False,
        )
        stderr = _COMMAND_FRAME.sub("", done.stderr.decode())
        return _observed(done.returncode, done.stdout.decode(), stderr, directory, script)

    def as_flow(self, server: ForkServer, script: Script, way: str, **spec: Any) -> tuple[Observed, Run]:
        """Run the script as a flow of that fork server."""
        directory = self.directory(script, way)
        ref = f"{directory}/{script.module}.py" + ("" if script.as_main else ":main")
        env = {"TMPDIR": str(directory / "tmp")}
        run = server.start(server.prepare("python", {"ref": ref}, working_dir=str(directory), env=env, **spec))
        record = run.wait(_DEADLINE_S)
        code = -record["signal"] if record["signal"] else record["exit_code"]
        # Records stand where a script prints to standard error.
        stdout, stderr = (
            "".join(line + "\n" for line in run.lines(*names)) for names in (("stdout",), ("stderr", "log"))
        )
        return _observed(code, stdout, stderr, directory, script), run


def _observed(code: int, stdout: str, stderr: str, directory: Path, script: Script) -> Observed:
    files = {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".py" and path.parts[-2] != "tmp"
    }
    left = sorted(re.sub("^(tmp|kept_).{8}$", r"\1*", path.name) for path in (directory / "tmp").iterdir())
    return Observed(code, _lines(stdout, directory, script), _lines(stderr, directory, script), files, left)


def _lines(text: str, directory: Path, script: Script) -> list[str]:
    text = _ADDRESS.sub("0x", text.replace(str(directory), "HERE"))
    lines = text.splitlines()
    return lines if script.ordered else sorted(lines)


def differences(expected: Observed, found: Observed) -> str:
    """Describe in what two observations differ; empty when they do not."""
    names = ("exit_code", "stdout", "stderr", "files", "temporary_files")
    pairs = [(name, getattr(expected, name), getattr(found, name)) for name in names]
    return "\n".join(f"{name}:\n  python {a!r}\n  flow   {b!r}" for name, a, b in pairs if a != b)


def describe(run: Run) -> str:
    """The journal of a run, for a failure's message."""
    return "\n".join(f"[{STREAM_NAMES[one.stream]}] {one.payload.decode('utf-8', 'replace')}" for one in run.records())


def pythons() -> list[str]:
    """The interpreters of this machine from 3.8 on, the oldest first."""
    return sorted((one for one in interpreters() if version_of(one) >= (3, 8)), key=version_of)


def python_parameters() -> list[Any]:
    """Parameters of a test: the oldest and the newest Python, and with --full those between."""
    found = pythons()
    usual = (found[0], found[-1])
    full = [pytest.mark.full]
    ids = ["{}.{}".format(*version_of(one)) for one in found]
    return [pytest.param(one, marks=[] if one in usual else full, id=id_) for one, id_ in zip(found, ids, strict=True)]


_versions: dict[str, tuple[int, int]] = {sys.executable: sys.version_info[:2]}


def version_of(python: str) -> tuple[int, int]:
    """Return the version of an interpreter, major and minor."""
    if python not in _versions:
        code = "import sys; print(*sys.version_info[:2])"
        text = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
        major, minor = text.split()
        _versions[python] = (int(major), int(minor))
    return _versions[python]
