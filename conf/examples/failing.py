"""Two flows that fail: by an exception, whose traceback is in the log, and by an exit code."""

import sys


def divide(dividend=1, divisor=0):
    """Fails with a ZeroDivisionError, unless it is given a better divisor."""
    print("dividing", dividend, "by", divisor)
    print("the result is", _quotient(dividend, divisor))


def _quotient(dividend, divisor):
    return dividend / divisor


def exit_three():
    """Ends the process with exit code 3."""
    print("leaving with 3", file=sys.stderr)
    sys.exit(3)
