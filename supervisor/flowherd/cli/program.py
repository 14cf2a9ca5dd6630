"""The commands in Typer's form. Imported only when one is carried out or completed."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable
from typing import Annotated, Any

import typer

from flowherd import __version__
from flowherd.cli import exit_codes, plain_parameters
from flowherd.cli.commands import ABOUT, COMMANDS, EPILOG
from flowherd.cli.printing import print_error, print_line

# Some releases of Typer include Click, others depend on it; a class that Typer exports leads to the right one.
_ClickException: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)
#: Variables in which shells hand over the words of the line to be completed.
_COMPLETED_WORDS = ("COMP_WORDS", "_TYPER_COMPLETE_ARGS")


def _print_version(wanted: bool) -> None:
    if wanted:
        print_line(f"flowherd {__version__}")
        raise typer.Exit


def _flowherd(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def make_app(*names: str) -> typer.Typer:
    """Return the program with these commands; without names with all."""
    app = typer.Typer(
        name="flowherd",
        help=ABOUT,
        epilog=EPILOG,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback()(_flowherd)
    for name in names or COMMANDS:
        importlib.import_module(f"flowherd.cli.{COMMANDS[name][0]}").add_to(app)
    return app


def carry_out(arguments: list[str]) -> object:
    """Carry out a command line and return its exit code, or None. Raises FlowherdError."""
    try:
        return _program(*_needed(arguments))(arguments, standalone_mode=False, prog_name="flowherd")
    except _ClickException as error:
        return _usage_error(error)
    except typer.Abort:
        return exit_codes.INTERRUPTED
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # Typer makes it an exit with 1
            raise end.__context__ from None
        raise


def _needed(arguments: list[str]) -> list[str]:
    """Return the command that a command line, or one that a shell completes, is about; nothing if it may be any."""
    for variable in _COMPLETED_WORDS:
        words = os.environ.get(variable, "").split()
        if "_FLOWHERD_COMPLETE" in os.environ and words:
            is_complete = len(words) > 2 or os.environ[variable][-1].isspace()
            return [words[1]] if is_complete and len(words) > 1 and words[1] in COMMANDS else []
    return [arguments[0]] if arguments and arguments[0] in COMMANDS else []


@functools.cache
def _program(*names: str) -> Callable[..., object]:
    """Return the commands in Click's form. Building it takes longer than most help texts."""
    command: Any = typer.main.get_command(make_app(*names))
    plain_parameters.ease(command)
    return command  # type: ignore[no-any-return]


def _usage_error(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "flowherd"
    message = error.format_message().rstrip(".") if hasattr(error, "format_message") else str(error)
    if message:  # an empty one means that no arguments were given and that the help text has been printed
        print_error(f"{message}; see `{command} --help`")
    return exit_codes.USAGE
