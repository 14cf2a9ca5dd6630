"""Leaves out of the help of a command what tells a person nothing: Python's names of types, and braces.

Typer 0.28 and later give each option and argument a column with its type, `<bool>` for a flag too, which takes no
value, and write a required argument as `{name}`. The range of a number takes the room of the descriptions; the error
about a number outside says the range. Does nothing with other releases of Typer.
"""

from __future__ import annotations

from typing import Any


def simplify_command(command: Any) -> None:
    """Let the terminal and not the source decide where the lines of a command's help end."""
    if text := getattr(command, "help", None):
        command.help = "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def simplify_parameter(parameter: Any) -> None:
    """Show what an option takes by a name, nothing beside flags and arguments, and an argument without braces."""
    is_argument = getattr(parameter, "param_type_name", "") == "argument"
    if hasattr(parameter, "display_type_rich"):
        nothing = is_argument or getattr(parameter, "is_flag", False)
        taken = None if nothing else parameter.metavar or max(parameter.opts, key=len).lstrip("-").upper()
        parameter.display_type_rich = lambda ctx: taken
    if hasattr(parameter, "_get_number_range_help_str"):
        parameter._get_number_range_help_str = lambda: None
    if is_argument and hasattr(parameter, "_usage_display_name"):
        parameter._usage_display_name = lambda: _in_usage(parameter)


def _in_usage(argument: Any) -> str:
    """Return an argument as the usage line has it: NAME, [NAME], RUN..., or its metavar if that has brackets."""
    name = argument.metavar or argument.name.upper()
    if argument.nargs != 1 and "..." not in name:
        name += "..."
    return name if argument.required or name.startswith("[") else f"[{name}]"
