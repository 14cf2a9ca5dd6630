"""Two flows that fail: one by an exception, whose traceback is in the log, one by an exit code."""

import sys


def divide(dividend=1, divisor=0):
    """Divide, which raises ZeroDivisionError with the default divisor."""
    print("dividing", dividend, "by", divisor)
    print("the result is", _quotient(dividend, divisor))


def _quotient(dividend, divisor):
    return dividend / divisor


def exit_three():
    """End the process with exit code 3."""
    print("leaving with 3", file=sys.stderr)
    sys.exit(3)
