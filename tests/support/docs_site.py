"""The virtual environment in which the site is built, with the extra `docs` of setup.py.

    python -m tests.support.docs_site         make it if it is missing, and print where it is

It is kept beside those of the real Prefects (tests/peers/environments.py). Its name changes with the extra.
"""

from __future__ import annotations

import ast
import hashlib
import subprocess
import sys
from pathlib import Path

from tests.peers.environments import CACHE, REQUIRED, Unavailable, is_complete, locked, make_environment
from tests.support.checkout import ROOT


def requirements() -> list[str]:
    """Return what the extra `docs` requires."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (extras,) = [
        node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "extras_require"
    ]
    return list(ast.literal_eval(extras)["docs"])


def site_python() -> Path:
    """Return the Python of the environment; make it if it is missing. Raises Unavailable."""
    minor = f"{sys.version_info[0]}.{sys.version_info[1]}"
    number = hashlib.sha256("\n".join(requirements()).encode()).hexdigest()[:12]
    directory = CACHE / "docs" / f"site-{minor}-{number}"
    directory.parent.mkdir(parents=True, exist_ok=True)
    with locked(directory.with_name(directory.name + ".lock")):
        if not is_complete(directory):
            make_environment(directory, Path(sys.executable), *requirements())
    return directory / "bin" / "python"


def build(source: Path, configuration: Path, place: Path) -> subprocess.CompletedProcess[str]:
    """Build the site as docs/conf.py says. Raises Unavailable."""
    options = ["-m", "sphinx", "-W", "--keep-going", "-q", "-c", str(configuration), str(source), str(place)]
    return subprocess.run([site_python(), *options], capture_output=True, text=True, timeout=100, check=False)


def main() -> int:
    """Make the environment; return 1 if that is not possible and it is required."""
    try:
        print(site_python())
    except Unavailable as error:
        print(error)
        return int(REQUIRED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
