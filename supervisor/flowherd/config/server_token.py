"""The file in the home with the embedded server's token, where server, agents and commands of one user find it."""

from __future__ import annotations

import os
from pathlib import Path

from flowherd.config.origins import Origin, Source
from flowherd.config.sources import Layer
from flowherd.errors import ConfigurationError
from flowherd.private_directory import make_private_directory, reason_against

TOKEN_FILE = "server.token"
#: Length of a new token, bytes of randomness.
_TOKEN_BYTES = 32
#: Longest file that is read, bytes.
_MAX_BYTES = 64 * 1024


def server_token_layer(home: Path) -> Layer:
    """Return the setting of the file, if there is one in this home.

    Raises ConfigurationError if it cannot be read, or if other users could have read or written it.
    """
    path = home / TOKEN_FILE
    try:
        status = path.lstat()
    except OSError:  # there is none
        return {}
    reason = reason_against(status)
    if reason is None and status.st_mode & 0o077:
        reason = f"can be read by other users (mode {status.st_mode & 0o777:04o}): `chmod 600` it"
    if reason is not None:
        raise ConfigurationError(f"the file {path} with the server's token {reason}")
    try:
        with path.open("rb") as file:
            token = file.read(_MAX_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the file {path} with the server's token cannot be read: {error}") from error
    if not token:
        raise ConfigurationError(f"the file {path} is for the server's token and is empty; remove it")
    return {"server.token": (token, Origin(source=Source.FILE, path=path))}


def make_server_token(home: Path) -> bool:
    """Make a token in the file, of mode 0600. Returns False, and leaves it, if there is one.

    Raises ConfigurationError if `home` must not be used, OSError if nothing can be written there.
    """
    import secrets

    make_private_directory(home, "home directory")
    path = home / TOKEN_FILE
    temporary = home / f".{TOKEN_FILE}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(_TOKEN_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)  # in one step and never in the place of another, as a rename would be
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True
