"""The error that ends a command, and the exit code of every error. Imports nothing heavy."""

from __future__ import annotations

from flowherd.cli import exit_codes
from flowherd.errors import (
    BackendUnavailable,
    ConfigurationError,
    FlowherdError,
    InvalidRequest,
    NotAuthorized,
    NotFound,
    WaitTimeout,
)

#: Exit codes of errors that are no CommandError; any other is a failure.
_CODES: tuple[tuple[type[FlowherdError], int], ...] = (
    (ConfigurationError, exit_codes.USAGE),
    (NotAuthorized, exit_codes.USAGE),
    (InvalidRequest, exit_codes.USAGE),
    (NotFound, exit_codes.NOT_FOUND),
    (WaitTimeout, exit_codes.STILL_GOING),
    (BackendUnavailable, exit_codes.UNREACHABLE),
)


class CommandError(FlowherdError):
    """A command cannot go on. The message says what was tried and what to do; the error carries the exit code."""

    def __init__(self, message: str, exit_code: int = exit_codes.FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def exit_code_of(error: FlowherdError) -> int:
    """Return the exit code for an error."""
    if isinstance(error, CommandError):
        return error.exit_code
    return next((code for kind, code in _CODES if isinstance(error, kind)), exit_codes.FAILED)


def message_of(error: FlowherdError) -> str:
    """Return the sentence about an error with which a command ends."""
    if isinstance(error, BackendUnavailable) and "flowherd doctor" not in str(error):
        return f"{error}; `flowherd doctor` checks the server and the way to it"
    return str(error)
