"""Prints errors of the child side itself. Its stderr, except in flow processes, is a file of the state directory.

A full disk must not put a second error in the place of the first.
"""

import sys
import traceback


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
