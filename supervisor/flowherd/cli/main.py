"""The program `flowherd`: collects the commands and turns errors into one line and an exit code."""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from flowherd import __version__
from flowherd.cli import config_command, exit_codes
from flowherd.cli.agent import (
    drain_command,
    pause_command,
    poke_command,
    restart_command,
    resume_command,
    start_command,
    status_command,
)
from flowherd.cli.demo import demo_command
from flowherd.cli.doctor import doctor_command
from flowherd.cli.explain import explain_command
from flowherd.cli.failures import exit_code_of, message_of
from flowherd.cli.flows import register_command
from flowherd.cli.install import install_command
from flowherd.cli.printing import print_error, print_line
from flowherd.cli.runs import cancel_command, logs_command, ps_command, run_command
from flowherd.cli.server import server_command
from flowherd.errors import FlowherdError
from flowherd.standard_streams import open_missing_streams

# Some releases of Typer include Click, others depend on it; a class that Typer exports leads to the right one.
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
        print_line(f"flowherd {__version__}")
        raise typer.Exit


@app.callback()
def _flowherd(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


#: In the order of `flowherd --help`.
_COMMANDS = (
    start_command,
    server_command,
    register_command,
    run_command,
    ps_command,
    cancel_command,
    logs_command,
    explain_command,
    poke_command,
    status_command,
    pause_command,
    resume_command,
    drain_command,
    restart_command,
    doctor_command,
    config_command,
    install_command,
    demo_command,
)
for command in _COMMANDS:
    command.add_to(app)


def main() -> None:
    """Run the command line of this process and exit with one of exit_codes."""
    open_missing_streams()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Carry out one command line and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a log may contain characters that the locale's encoding lacks
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _program()(arguments, standalone_mode=False, prog_name="flowherd")
    except FlowherdError as error:
        print_error(message_of(error))
        return exit_code_of(error)
    except _ClickException as error:
        return _usage_error(error)
    except (KeyboardInterrupt, typer.Abort):
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes the rest of the buffer when it exits, which would raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.BROKEN_PIPE
    return code if isinstance(code, int) else exit_codes.OK


@functools.cache
def _program() -> Callable[..., object]:
    """Return the commands in Click's form. Building it takes longer than most help texts."""
    return typer.main.get_command(app)


def _usage_error(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "flowherd"
    message = error.format_message().rstrip(".") if hasattr(error, "format_message") else str(error)
    if message:  # an empty one means that no arguments were given and that the help text has been printed
        print_error(f"{message}; see `{command} --help`")
    return exit_codes.USAGE


if __name__ == "__main__":
    main()
