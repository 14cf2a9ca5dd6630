"""Files in the home with tokens, where server, agents and commands of one user find them.

`server.token` is the embedded server's, `agent.token` that of the HTTP APIs of this home's agents. They are made by a
command, never by hand, and a token that is set in another way comes first.
"""

from __future__ import annotations

import os
from pathlib import Path

from flowherd.config.origins import Origin, Source
from flowherd.config.sources import Layer
from flowherd.errors import ConfigurationError
from flowherd.private_directory import make_private_directory, reason_against

SERVER_TOKEN_FILE = "server.token"
AGENT_TOKEN_FILE = "agent.token"
#: {setting: file in the home, whose token it is}.
_FILES = {
    "server.token": (SERVER_TOKEN_FILE, "the server's"),
    "agent.api_token": (AGENT_TOKEN_FILE, "the agent's"),
}
#: Length of a new token, bytes of randomness.
_TOKEN_BYTES = 32
#: Longest file that is read, bytes.
_MAX_BYTES = 64 * 1024


def tokens_of_home(home: Path) -> Layer:
    """Return the settings of those files that are in this home.

    Raises ConfigurationError if one cannot be read, or if other users could have read or written it.
    """
    found: dict[str, tuple[str, Origin]] = {}
    for setting, (name, whose) in _FILES.items():
        token = _token_in(home / name, whose)
        if token is not None:
            found[setting] = (token, Origin(source=Source.FILE, path=home / name))
    return found


def _token_in(path: Path, whose: str) -> str | None:
    try:
        status = path.lstat()
    except OSError:  # there is none
        return None
    reason = reason_against(status)
    if reason is None and status.st_mode & 0o077:
        reason = f"can be read by other users (mode {status.st_mode & 0o777:04o}): `chmod 600` it"
    if reason is not None:
        raise ConfigurationError(f"the file {path} with {whose} token {reason}")
    try:
        with path.open("rb") as file:
            token = file.read(_MAX_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the file {path} with {whose} token cannot be read: {error}") from error
    if not token:
        raise ConfigurationError(f"the file {path} is for {whose} token and is empty; remove it")
    return token


def make_token(home: Path, name: str) -> bool:
    """Make a token in the file of this name, of mode 0600. Returns False, and leaves it, if there is one.

    Raises ConfigurationError if `home` must not be used, OSError if nothing can be written there.
    """
    import secrets

    make_private_directory(home, "home directory")
    path = home / name
    temporary = home / f".{name}.{os.getpid()}"
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
