"""Programs of Debian packages that some tests use; CI installs them (.ci/run)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

#: As in tests/peers/environments.py.
_REQUIRED = os.environ.get("FLOWHERD_REQUIRE_PEERS") == "1"
#: Where Debian has programs that are not for everybody, beside what is on PATH.
_SBIN = "/usr/sbin"


def required_program(name: str, package: str) -> Path:
    """Return the path of the program, or skip the test when it is not installed (fail it where peers are required)."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}{os.pathsep}{_SBIN}")
    if found is not None:
        return Path(found)
    missing = f"there is no {name} on PATH or in {_SBIN}; apt-get install {package}"
    if _REQUIRED:
        pytest.fail(f"FLOWHERD_REQUIRE_PEERS=1, but {missing}", pytrace=False)
    pytest.skip(missing)
