"""Finds the home directory of the user who runs this program, which a user without a password entry may not have."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path


def home_of_user(environ: Mapping[str, str]) -> Path | None:
    """Return the directory that `~` means: HOME, else that of the password database; None if neither has one."""
    if environ.get("HOME"):
        return Path(environ["HOME"])
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # a container's user, `setpriv --reuid`
        return None
