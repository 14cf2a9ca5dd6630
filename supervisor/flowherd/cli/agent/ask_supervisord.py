"""What supervisord knows about the program that is an agent."""

from __future__ import annotations

from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError
from flowherd.supervisord.rpc import Access, ProgramState, SupervisordError, find_access, program_state


def ask_supervisord(program: str, url: str | None, configuration: str | None) -> tuple[Access, ProgramState] | None:
    """Return how supervisord is reached and what it knows of `program`; None if no supervisord is found or answers.

    `url` and `configuration` come from the command line; if one is given, a supervisord that does not answer is a
    CommandError.
    """
    try:
        access = find_access(url, configuration)
        return (access, program_state(access, program)) if access is not None else None
    except SupervisordError as error:
        if url or configuration:
            raise CommandError(str(error), exit_codes.UNREACHABLE) from error
        return None
