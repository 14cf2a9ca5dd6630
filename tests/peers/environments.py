"""Virtual environments with the real Prefect, made once from PyPI and kept outside the tree.

    python -m tests.peers.environments        make the missing ones and print where each is

They are in `flowherd/peers` below XDG_CACHE_HOME (else ~/.cache). Their names change with the pins, so an environment
of other pins is never taken for this one. FLOWHERD_PEERS_DIR names another directory: there they are called
`prefect-VERSION`, and one that exists is used as it is.

An environment counts as complete when its mark exists. The mark is written last, and the process that makes an
environment holds its lock, so two do not interfere, and what a killed one left half made is made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

#: Versions of Prefect whose server is the embedded one.
PREFECT_0, PREFECT_1 = PREFECT_0_AND_1 = ("0.13.1", "1.4.1")
#: A version of Prefect whose own server is the backend.
PREFECT_3 = "3.8.5"
#: An earlier minor version of it, for servers and runtimes of different versions.
EARLIER_PREFECT_3 = "3.4.25"
#: The Python of each.
_PYTHONS = {PREFECT_0: "3.8", PREFECT_1: "3.9", PREFECT_3: "3.12", EARLIER_PREFECT_3: "3.12"}

_PINS = Path(__file__).with_name("pins")
#: Home of the person who started the tests; each test has one of its own.
_HOME = Path.home()
#: Where all environments of the tests are kept.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or _HOME / ".cache") / "flowherd"
_GIVEN = os.environ.get("FLOWHERD_PEERS_DIR")
#: Whether a missing interpreter is a failure and not a reason to skip.
REQUIRED = os.environ.get("FLOWHERD_REQUIRE_PEERS") == "1"
_MARK = ".complete"
_INSTALL_TIMEOUT_S = 540


class Unavailable(Exception):
    """A real Prefect cannot be installed here; the text says what was looked for and how to get it."""


@dataclass(frozen=True)
class Installation:
    """A virtual environment that holds one version of Prefect."""

    version: str
    directory: Path

    @property
    def python(self) -> Path:
        return self.directory / "bin" / "python"

    @property
    def prefect(self) -> Path:
        return self.directory / "bin" / "prefect"

    @property
    def is_prefect_1(self) -> bool:
        """Whether this is Prefect 1.x, which has other commands and options than 0.x."""
        return self.version.startswith("1.")


def required_installation(version: str) -> Installation:
    """Return the environment, or skip the test when it cannot be made (fail it where peers are required)."""
    try:
        return installation(version)
    except Unavailable as error:
        if REQUIRED:
            pytest.fail(f"FLOWHERD_REQUIRE_PEERS=1, but {error}", pytrace=False)
        pytest.skip(str(error))


def installation(version: str) -> Installation:
    """Return the environment with this Prefect; make it if it is missing.

    Raises Unavailable without an interpreter for it, and when PyPI does not have what the pins name.
    """
    found = _found_once(version)
    if isinstance(found, Unavailable):
        raise found
    return found


@cache
def _found_once(version: str) -> Installation | Unavailable:
    """Keep the result of this process's only attempt: a failure that took minutes is not repeated for each test."""
    try:
        return found_or_made(version, _directory(version))
    except Unavailable as error:
        return error


def found_or_made(version: str, directory: Path) -> Installation:
    """Return the environment in `directory`; make it unless it is complete, or was put there by hand."""
    lock = directory.with_name(directory.name + ".lock")
    found = Installation(version, directory)
    if found.prefect.exists() and not lock.exists():
        return found
    directory.parent.mkdir(parents=True, exist_ok=True)
    with locked(lock):
        if not is_complete(directory):
            _make(version, directory)
    return found


def interpreter(minor: str) -> Path:
    """Find a Python of this version, "3.8" say, that can make virtual environments.

    Being on PATH is not enough: pyenv puts a python3.8 there that may only say that no such version is chosen.
    Raises Unavailable.
    """
    on_path = shutil.which(f"python{minor}")
    pyenv = Path(os.environ.get("PYENV_ROOT") or _HOME / ".pyenv") / "versions"
    candidates = [
        *([Path(on_path)] if on_path else []),
        *sorted(pyenv.glob(f"{minor}*/bin/python{minor}"), reverse=True),
    ]
    for candidate in candidates:
        if _works(candidate, minor):
            return candidate
    raise Unavailable(
        f"there is no Python {minor} with venv: neither a python{minor} on PATH nor one under {pyenv}. "
        f"Install one, by `pyenv install {minor}` or as the packages python{minor} and python{minor}-venv; or have "
        f"FLOWHERD_PEERS_DIR name a directory with ready environments"
    )


def _works(candidate: Path, minor: str) -> bool:
    code = "import ensurepip, venv, sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([candidate, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode == 0 and done.stdout.strip() == minor


def _pins(version: str) -> Path:
    return _PINS / f"prefect-{version}.txt"


def _directory(version: str) -> Path:
    if _GIVEN:
        return Path(_GIVEN).absolute() / f"prefect-{version}"
    return CACHE / "peers" / f"prefect-{version}-{hashlib.sha256(_pins(version).read_bytes()).hexdigest()[:12]}"


def is_complete(directory: Path) -> bool:
    """Whether it was made to the end and its interpreter is still installed (bin/python is a link to it)."""
    return (directory / _MARK).exists() and (directory / "bin" / "python").exists()


def _make(version: str, directory: Path) -> None:
    make_environment(directory, interpreter(_PYTHONS[version]), "-r", str(_pins(version)))


def make_environment(directory: Path, python: Path, *requirements: str) -> None:
    """Make a virtual environment with what these arguments of pip name. Raises Unavailable."""
    shutil.rmtree(directory, ignore_errors=True)
    _run(python, "-m", "venv", str(directory))
    # Wheels only: quick, and no package's setup code depends on what this machine has.
    pip = (directory / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    _run(*pip, "--only-binary", ":all:", *requirements)
    (directory / _MARK).touch()


def _run(*command: str | Path) -> None:
    # pip's own settings are at the caller's home, not at a test's.
    environ = {**os.environ, "HOME": str(_HOME)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, check=False)
    if done.returncode:
        raise Unavailable(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold this lock against other processes."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Make them all at once; return 1 if one cannot be made and all are required."""
    with ThreadPoolExecutor() as executor:
        made = list(executor.map(_found_once, _PYTHONS))
    for version, found in zip(_PYTHONS, made, strict=True):
        print(f"Prefect {version}: {found if isinstance(found, Unavailable) else found.directory}", flush=True)
    return int(REQUIRED and any(isinstance(found, Unavailable) for found in made))


if __name__ == "__main__":
    sys.exit(main())
