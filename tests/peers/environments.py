"""Virtual environments with the real Prefect, made once from PyPI and kept outside the tree.

    python -m tests.peers.environments        make what is missing, and say where each is

They are in `flowherd/peers` below XDG_CACHE_HOME (else ~/.cache), under names that change with the pins, so that
an environment of other pins is never taken for this one. FLOWHERD_PEERS_DIR names another directory; there they are
called `prefect-VERSION`, and what is there already is taken as it is.

An environment counts when its mark is there, and the mark is written last; whoever makes one holds its lock. So two
makers do not meet, and what a killed maker left half made is made anew.
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

#: Each Prefect and the Python that it runs on.
PYTHONS = {"0.13.1": "3.8", "1.4.1": "3.9"}
OLD, NEW = PYTHONS
#: The one whose server is the backend; the same for it.
THIRD = "3.8.5"
#: An earlier minor version of it, for servers and runtimes that are not of the same version.
EARLIER_THIRD = "3.4.25"
_ALL = {**PYTHONS, THIRD: "3.12", EARLIER_THIRD: "3.12"}

_PINS = Path(__file__).with_name("pins")
#: Of whoever started the tests; each test has a home of its own.
_HOME = Path.home()
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or _HOME / ".cache") / "flowherd" / "peers"
_GIVEN = os.environ.get("FLOWHERD_PEERS_DIR")
#: Set where a missing interpreter is a failure and no reason to skip.
_REQUIRED = os.environ.get("FLOWHERD_REQUIRE_PEERS") == "1"
_MARK = ".complete"
_INSTALL_TIMEOUT_S = 540


class Unavailable(Exception):
    """A real Prefect cannot be had here; the text says what was looked for and how to get it."""


@dataclass(frozen=True)
class Peer:
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
    def new(self) -> bool:
        """Whether it is of the 1.x line, where commands and options are called otherwise."""
        return self.version.startswith("1.")


def required_peer(version: str) -> Peer:
    """For tests: the environment; without its interpreter the test is skipped, or fails where peers are required."""
    try:
        return peer(version)
    except Unavailable as error:
        if _REQUIRED:
            pytest.fail(f"FLOWHERD_REQUIRE_PEERS=1, but {error}", pytrace=False)
        pytest.skip(str(error))


def peer(version: str) -> Peer:
    """The environment with this Prefect, made if it is not there.

    Raises Unavailable without an interpreter for it, and when PyPI does not give what the pins name.
    """
    found = _sought(version)
    if isinstance(found, Unavailable):
        raise found
    return found


@cache
def _sought(version: str) -> Peer | Unavailable:
    """What became of the one attempt of this process: a failure that took minutes is not tried again for each test."""
    try:
        return found_or_made(version, _directory(version))
    except Unavailable as error:
        return error


def found_or_made(version: str, directory: Path) -> Peer:
    """The environment in `directory`, made there unless it is complete, or was put there by hand."""
    lock = directory.with_name(directory.name + ".lock")
    found = Peer(version, directory)
    if found.prefect.exists() and not lock.exists():
        return found
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _locked(lock):
        if not _complete(directory):
            _make(version, directory)
    return found


def interpreter(minor: str) -> Path:
    """A Python of this version, "3.8" say, that can make virtual environments.

    Being on PATH is not enough: pyenv puts a python3.8 there that may only say that no such version is chosen.
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
    return _CACHE / f"prefect-{version}-{hashlib.sha256(_pins(version).read_bytes()).hexdigest()[:12]}"


def _complete(directory: Path) -> bool:
    """Made to the end, and its interpreter is still installed (bin/python is a link to it)."""
    return (directory / _MARK).exists() and (directory / "bin" / "python").exists()


def _make(version: str, directory: Path) -> None:
    python = interpreter(_ALL[version])
    shutil.rmtree(directory, ignore_errors=True)
    _run(python, "-m", "venv", str(directory))
    # Wheels only: quick, and no package's set-up code depends on what this machine has.
    pip = (directory / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    _run(*pip, "--only-binary", ":all:", "-r", str(_pins(version)))
    (directory / _MARK).touch()


def _run(*command: str | Path) -> None:
    # pip's own settings are at the caller's home, not at a test's.
    environ = {**os.environ, "HOME": str(_HOME)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, check=False)
    if done.returncode:
        raise Unavailable(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Make them all at once; 1 if one cannot be had and all are required."""
    with ThreadPoolExecutor() as executor:
        made = list(executor.map(_sought, _ALL))
    for version, found in zip(_ALL, made, strict=True):
        print(f"Prefect {version}: {found if isinstance(found, Unavailable) else found.directory}", flush=True)
    return int(_REQUIRED and any(isinstance(found, Unavailable) for found in made))


if __name__ == "__main__":
    sys.exit(main())
