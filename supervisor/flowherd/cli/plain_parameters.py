"""Spares Typer the import of pydantic for texts and numbers that need no conversion.

Typer 0.28 and later convert every parameter by a pydantic TypeAdapter, also a text that stays as it is: a third of the
CPU time of a short command, and 15 MiB of an agent. A parameter of a simple type is handled here; what is not plainly
right is left to Typer, which also words the error. Does nothing with other releases of Typer.
"""

from __future__ import annotations

from typing import Any, Protocol

from flowherd.cli.plain_help import simplify_command, simplify_parameter


class _Parameter(Protocol):
    """What is used of a parameter of Typer's."""

    multiple: bool
    nargs: int
    type_descriptor: Any
    _runtime_param: Any

    def get_runtime_param(self) -> Any: ...


def ease(command: Any) -> None:
    """Handle the simple parameters of a command and of all its own commands here; show all in plain words."""
    simplify_command(command)
    for parameter in getattr(command, "params", ()):
        _ease(parameter)
    make_help_option = command.get_help_option  # made when it is needed, and not among the parameters
    command.get_help_option = lambda context: _ease(make_help_option(context))
    for inner in getattr(command, "commands", {}).values():
        ease(inner)


def _ease(parameter: Any) -> Any:
    simplify_parameter(parameter)
    if hasattr(parameter, "get_runtime_param") and hasattr(parameter, "type_descriptor"):
        parameter._runtime_param = _PlainValues(parameter)
    return parameter


class _PlainValues:
    """In the place of Typer's conversion of one parameter."""

    def __init__(self, parameter: _Parameter) -> None:
        self._parameter = parameter

    def coerce(self, value: Any, param: _Parameter, ctx: Any) -> Any:
        """Return the value of the parameter, as Typer's method of this name does."""
        kind = self._parameter.type_descriptor.annotation
        if value is None and not (param.multiple or param.nargs == -1):
            return None
        if kind is str and isinstance(value, str):
            return value
        if kind == list[str] and isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            return list(value)
        if value is None:
            return ()
        if kind is int and (number := self._whole_number(value)) is not None:
            return number
        self._parameter._runtime_param = None
        return self._parameter.get_runtime_param().coerce(value, param=param, ctx=ctx)

    def _whole_number(self, value: Any) -> int | None:
        """Return a number of plain digits that is within the parameter's bounds."""
        if not (type(value) is int or (isinstance(value, str) and value.isascii() and value.isdigit())):
            return None
        number, info = int(value), self._parameter.type_descriptor.parameter_info
        low, high = info.min, info.max
        is_within = (low is None or number >= low) and (high is None or number <= high)
        return number if is_within else None
