"""Prints errors of the child side itself. Its stderr, except in flow processes, is a file of the state directory.

A full disk must not put a second error in the place of the first.
"""

import os
import sys
import traceback

from flowherd_runner.contract.files import RUNNER_ERRORS_FILE, open_regular


def print_traceback() -> None:
    """Print the exception that is being handled on stderr, if that can be written."""
    try:
        traceback.print_exc()
    except (OSError, ValueError, AttributeError):  # the last one if there is no stderr
        pass
    flush_output()


def flush_output() -> None:
    """Write out what stdout and stderr hold, if that can be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass


def open_errors(directory: str) -> None:
    """Make the run's file of errors standard error."""
    try:
        errors = open_regular(os.path.join(directory, RUNNER_ERRORS_FILE), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    except OSError:
        errors = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(errors, 2)
    os.close(errors)
