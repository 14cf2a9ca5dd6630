"""The program `flowherd`: its commands, and what becomes of an error. Does no work itself."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from flowherd import __version__
from flowherd.cli import (
    agents,
    config_cmd,
    control,
    demo,
    doctor,
    exit_codes,
    explain,
    flows,
    install,
    logs,
    runs,
    server,
    start,
)
from flowherd.cli.failures import exit_code_of
from flowherd.cli.output import fail, say
from flowherd.errors import FlowherdError

# Typer brings Click along in some releases and depends on it in others; its own export leads to the right one.
_ClickException: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)

app = typer.Typer(
    name="flowherd",
    help="Supervise flow runs on this host: claim them, fork one runner per run, watch every process, lose none.",
    epilog="Start with:  flowherd demo   |   flowherd start   |   flowherd COMMAND --help",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"flowherd {__version__}")
        raise typer.Exit


@app.callback()
def _flowherd(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


for family in (start, server, flows, runs, logs, explain, agents, control, doctor, config_cmd, install, demo):
    family.add_to(app)


def main() -> None:
    """The entry point; exits with one of exit_codes."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Carry out one command line and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a log may hold what the locale's encoding has no characters for
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(arguments, standalone_mode=False, prog_name="flowherd")
    except FlowherdError as error:
        fail(str(error))
        return exit_code_of(error)
    except _ClickException as error:
        return _usage_error(error)
    except (KeyboardInterrupt, typer.Abort):
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        # What is left in the buffer would raise once more when the interpreter flushes it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.BROKEN_PIPE
    return code if isinstance(code, int) else exit_codes.OK


def _usage_error(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "flowherd"
    message = error.format_message().rstrip(".") if hasattr(error, "format_message") else str(error)
    if message:  # without one, the help text was asked for by giving no arguments and has been printed
        fail(f"{message}; see `{command} --help`")
    return exit_codes.USAGE


if __name__ == "__main__":
    main()
