"""Directories that belong to this user alone: makes them, and refuses those that another user could have prepared.

A home, state or data directory holds tokens, parameters and the address that tokens are sent to. One that another user
made, or can write to, may contain what that user wants: a configuration, or the address of a server that collects
tokens. A link is refused because its owner decides where it leads.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from pathlib import Path

from flowherd.errors import ConfigurationError


def make_private_directory(path: Path, what: str) -> None:
    """Make the directory `path` and its missing parents, each with mode 0700, or check the one that is there.

    `what` is its name in messages. Raises ConfigurationError if it must not be used, OSError if it cannot be made.
    """
    make_missing_directories(path)
    check_private_directory(path, what)


def make_missing_directories(path: Path) -> None:
    """Make the directory `path` and its missing parents, each with mode 0700; check nothing.

    Not `Path.mkdir(parents=True)`, which gives those above the mode that the umask leaves: 0777 with umask 000, so that
    anybody could rename what is in them. Raises OSError.
    """
    missing = [one for one in (path, *path.parents) if not os.path.lexists(one)]
    for one in reversed(missing):
        with contextlib.suppress(FileExistsError):  # made by another process at this moment
            one.mkdir(mode=0o700)


def check_private_directory(path: Path, what: str) -> None:
    """Raise ConfigurationError, with the reason, if `path` exists and must not be used as a directory of this user."""
    try:
        status = path.lstat()
    except OSError:  # it does not exist, or its use fails with a reason of its own
        return
    reason = reason_against(status)
    if reason is None and not stat.S_ISDIR(status.st_mode):
        reason = "is not a directory"
    if reason is not None:
        raise ConfigurationError(f"the {what} {path} {reason}; it is not used")


def reason_against(status: os.stat_result) -> str | None:
    """Return why a file or directory may not be trusted, from its lstat(2); None if it may.

    Root's are trusted only by root, except by callers that say so themselves.
    """
    uid, mode = os.geteuid(), stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return "is a link; name what it leads to"
    if status.st_uid != uid:
        owner, own = user_name(status.st_uid), user_name(uid)
        return f"belongs to user {owner}, and this is user {own}: run it as {owner}, or choose another place"
    if mode & stat.S_IWOTH or (mode & stat.S_IWGRP and status.st_gid != os.getegid()):
        return f"can be written by other users (mode {mode:04o}): `chmod go-w` it, once nothing foreign is in it"
    return None


def replace_private_file(path: Path, text: str) -> None:
    """Write a file of mode 0600 and put it in the place of `path` in one step. Flushes nothing. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def user_name(uid: int) -> str:
    """Return the name of a user; the number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
