"""`flowherd run --here`: one run in this terminal, with its input, recorded nowhere."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping
from typing import Any

from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError
from flowherd.cli.here.child import child_program, level_of, spec_of_flow
from flowherd.cli.here.kept_definitions import Definition
from flowherd.cli.printing import print_note
from flowherd.config import LoadedSettings
from flowherd.errors import UnsupportedStorage
from flowherd.parameter_names import complaints, parameter_names
from flowherd.signals import ignoring_interrupts
from flowherd_runner.contract.isolation import NONE
from flowherd_runner.contract.reasons import FLOW_NOT_STARTED


def run_here(
    definition: Definition, parameters: Mapping[str, Any], loaded: LoadedSettings, run_name: str | None
) -> int:
    """Run the flow until it ends, and return the exit code of the command.

    Raises CommandError if it has no such parameter, or if it is a flow of Prefect's.
    """
    given = {**definition.defaults, **parameters}
    unknown = complaints(given, parameter_names(definition.storage, None))
    if unknown:
        raise CommandError(f"{definition.name} was not run: {'; '.join(unknown)}", exit_codes.USAGE)
    try:
        spec = spec_of_flow(definition, given, loaded, run_name or "here")
    except UnsupportedStorage as error:
        raise CommandError(
            f"{definition.name} does not run here: {error}. --here is for Python functions and commands; run a flow of "
            "Prefect's with Prefect itself",
            exit_codes.USAGE,
        ) from error
    print_note(f"{definition.name} runs here: without limits, {_without_isolation(definition, loaded)}recorded nowhere")
    with child_program(spec, "here") as (argv, environment):
        code = _wait(argv, environment)
    return _report(definition.name, code)


def _without_isolation(definition: Definition, loaded: LoadedSettings) -> str:
    try:
        level = level_of(definition, loaded)
    except ValueError:
        return "not isolated although it asks for it, in words that no agent understands, and "
    return "and " if level == NONE else f"not isolated although its level is {level}, and "


def _wait(argv: Any, environment: dict[str, str]) -> int:
    """Start the program on this terminal and return its exit code, as subprocess has it."""
    # Ctrl-C at the terminal is for the flow; the child side sets its own handlers again.
    with ignoring_interrupts():
        try:
            return subprocess.call(argv, env=environment)
        except OSError as error:
            raise CommandError(f"{argv[0]} cannot be started: {error.strerror}", exit_codes.NOT_FOUND) from error


def _report(name: str, code: int) -> int:
    if code in (-signal.SIGINT, exit_codes.INTERRUPTED):
        print_note(f"{name}: interrupted")
        return exit_codes.INTERRUPTED
    if code < 0:
        print_note(f"{name}: Failed: killed by signal {-code}")
    elif code == FLOW_NOT_STARTED:
        print_note(f"{name}: Failed: not started, see above")
    else:
        print_note(f"{name}: {'Success' if code == 0 else f'Failed: exit code {code}'}")
    return exit_codes.OK if code == 0 else exit_codes.FAILED
