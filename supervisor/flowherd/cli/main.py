"""The program `flowherd`: carries out one command line and turns errors into one line and an exit code.

What a command needs is imported when it is called, and Typer only for a command: most of a short command's time is
spent on imports.
"""

from __future__ import annotations

import io
import os
import sys

from flowherd.cli import exit_codes
from flowherd.cli.process_end import end
from flowherd.errors import FlowherdError
from flowherd.standard_streams import open_missing_streams


def main() -> None:
    """Run the command line of this process and exit with one of exit_codes."""
    open_missing_streams()
    end(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Carry out one command line and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a log may contain characters that the locale's encoding lacks
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _carry_out(arguments)
    except FlowherdError as error:
        from flowherd.cli.failures import exit_code_of, message_of
        from flowherd.cli.printing import print_error

        print_error(message_of(error))
        return exit_code_of(error)
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes the rest of the buffer when it exits, which would raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.BROKEN_PIPE
    return code if isinstance(code, int) else exit_codes.OK


def _carry_out(arguments: list[str]) -> object:
    if arguments in ([], ["--help"], ["-h"]) and "_FLOWHERD_COMPLETE" not in os.environ:
        from flowherd.cli import help_screen

        if help_screen.can_be_drawn():
            print(help_screen.help_screen(), flush=True)
            return exit_codes.OK if arguments else exit_codes.USAGE
    from flowherd.cli.program import carry_out

    return carry_out(arguments)


if __name__ == "__main__":
    main()
