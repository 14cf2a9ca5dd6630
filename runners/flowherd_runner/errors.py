"""What the child side does about failures: the error of kinds that cannot reach the code, and printing of others."""

import sys
import traceback


class NotStarted(Exception):
    """The user's code could not be reached; the text is the evidence in exit.json."""


def print_traceback() -> None:
    """Print the exception that is being handled on stderr, so far as that can be written.

    It is a file of the state directory: a full disk must not put a second error in the place of the first.
    """
    try:
        traceback.print_exc()
    except (OSError, ValueError, AttributeError):  # the last one where there is no stderr
        pass
    flush_output()


def flush_output() -> None:
    """Write out what stdout and stderr hold, so far as that can be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass
