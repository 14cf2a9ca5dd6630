"""flowherd with the lowest versions that setup.py permits of what it needs.

    python -m tests.lowest_versions           in Python 3.10, or this one: the demo, and some unit tests
    python -m tests.lowest_versions --full    in each of Python 3.10 to 3.13, with the lowest versions and with the
                                              newest: the demo and all unit tests

Only what setup.py names is pinned; pip chooses what that needs in turn. Environments are made once for each set of pins
and kept beside those of the real Prefects (tests/peers/environments.py); those with the newest versions are renewed.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.peers.environments import (
    CACHE,
    REQUIRED,
    Unavailable,
    interpreter,
    is_complete,
    locked,
    make_environment,
)

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
#: What runs the unit tests, in any version.
_RUNNERS = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis")
#: Unit tests that use libraries most.
_SOME_TESTS = ("tests/unit/cli", "tests/unit/config", "tests/unit/server")
_REQUIREMENT = re.compile(r"(?P<name>[a-z0-9-]+)(>=(?P<lowest>[0-9.]+))?(?P<marker>;.*)?")
_TIMEOUT_S = 540


def requirements() -> list[str]:
    """Return what setup.py requires, as it stands there."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (found,) = [
        node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "install_requires"
    ]
    return list(ast.literal_eval(found))


def lowest(requirement: str) -> str:
    """Return the pin of the lowest version that a requirement permits. Raises ValueError for one of another form."""
    found = _REQUIREMENT.fullmatch(requirement)
    if found is None:
        raise ValueError(f"{requirement!r} in setup.py is not NAME or NAME>=VERSION, so it has no lowest version")
    pin = f"=={found['lowest']}" if found["lowest"] else ""
    return f"{found['name']}{pin}{found['marker'] or ''}"


def environment(minor: str, kind: str) -> Path:
    """Return the Python of an environment with the "lowest" or "newest" versions. Raises Unavailable."""
    wanted = [lowest(each) for each in requirements()] if kind == "lowest" else ["--upgrade", *requirements()]
    wanted += _RUNNERS
    digest = hashlib.sha256("\n".join(wanted).encode()).hexdigest()[:12]
    directory = CACHE / "bounds" / f"{kind}-{minor}-{digest}"
    directory.parent.mkdir(parents=True, exist_ok=True)
    with locked(directory.with_name(directory.name + ".lock")):
        if kind == "newest" or not is_complete(directory):
            make_environment(directory, interpreter(minor), *wanted)
    return directory / "bin" / "python"


def check(minor: str, kind: str, tests: tuple[str, ...]) -> bool:
    """Run demo and tests in an environment; print what failed. Returns whether all passed, or could not be tried."""
    what = f"Python {minor}, {kind} versions"
    try:
        python = environment(minor, kind)
    except Unavailable as error:
        print(f"{what}: {error}", flush=True)
        return not REQUIRED
    # A deprecation in an old library is no failure of ours.
    pytest = ["-m", "pytest", "-q", *tests, "--hypothesis-profile", "quick", "-o", "filterwarnings="]
    passed = True
    for arguments in (["-m", "flowherd", "demo"], [*pytest, "-p", "no:cacheprovider"]):
        done = _run(python, arguments)
        print(f"{what}: {' '.join(arguments[1:3])}: {'failed' if done.returncode else 'passed'}", flush=True)
        if done.returncode:
            print(done.stdout, flush=True)
            passed = False
    return passed


def _run(python: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(str(ROOT / name) for name in ("supervisor", "runners"))
    with tempfile.TemporaryDirectory(prefix="flowherd-bounds-") as home:
        return subprocess.run(
            [python, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": paths, "HOME": home},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )


def _lowest_python() -> str:
    """Return the lowest version of Python that is supported, or if it is not here, this one."""
    try:
        interpreter(PYTHONS[0])
    except Unavailable:
        return "{}.{}".format(*sys.version_info)
    return PYTHONS[0]


def main() -> int:
    """Check one Python or all; return 1 if something failed."""
    parser = argparse.ArgumentParser(description="flowherd with the lowest versions that setup.py permits")
    parser.add_argument("--full", action="store_true", help="on all Pythons, and with the newest versions too")
    if parser.parse_args().full:
        results = [check(minor, kind, ("tests/unit",)) for minor in PYTHONS for kind in ("lowest", "newest")]
    else:
        results = [check(_lowest_python(), "lowest", _SOME_TESTS)]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
