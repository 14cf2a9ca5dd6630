"""The program `flowherd`: its commands, and what becomes of an error. Does no work itself."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from flowherd import __version__
from flowherd.cli import config_command, exit_codes
from flowherd.cli.agent import control_commands, server, start, status
from flowherd.cli.demo import demo_command
from flowherd.cli.doctor import doctor_command
from flowherd.cli.explain import explain_command
from flowherd.cli.failures import exit_code_of
from flowherd.cli.flows import register
from flowherd.cli.install import install_command
from flowherd.cli.output import fail, say
from flowherd.cli.runs import logs_command, run_commands
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


_FAMILIES = (
    start,
    server,
    register,
    run_commands,
    logs_command,
    explain_command,
    status,
    control_commands,
    doctor_command,
    config_command,
    install_command,
    demo_command,
)
for family in _FAMILIES:
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
