"""Where the interpreter, what it imports, and flowherd's side of a run lie."""

import os
import sys
from functools import lru_cache
from typing import Tuple

from flowherd_runner import PACKAGE_DIRECTORY
from flowherd_runner.isolation.private_places import REPLACED


def needed_places() -> Tuple[str, ...]:
    """Return what a run in this process needs, wherever links lead."""
    own = (sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(sys.executable), PACKAGE_DIRECTORY)
    return (*own, *(path for path in sys.path if path and path not in REPLACED))


@lru_cache(maxsize=None)
def code_places() -> Tuple[str, ...]:
    """Return the real paths of what the next fork server and runner load, as this process has: looked up once."""
    return tuple(map(os.path.realpath, (sys.prefix, sys.base_prefix, sys.exec_prefix, PACKAGE_DIRECTORY)))
