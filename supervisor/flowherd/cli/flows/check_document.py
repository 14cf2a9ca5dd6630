"""The checks of a document that is to be registered, and what is said about them."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError
from flowherd.cli.here.kept_definitions import Definition
from flowherd.cli.printing import print_error, print_note, print_warning
from flowherd.isolation.levels import places_without_effect, requested_isolation
from flowherd.parameter_names import complaints, parameter_names
from flowherd.parameter_types import signature_entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowherd.config import LoadedSettings


def check_document(document: dict[str, Any], loaded: LoadedSettings) -> None:
    """Check the flow of a document as `problems_of` does.

    Raises CommandError if its runs would fail, after an error for each reason.
    """
    problems = problems_of(document, loaded)
    for problem in problems:
        print_error(problem)
    if problems:
        raise CommandError(
            f"{document['name']} was not registered; correct this, or register it with --no-check if the agent has "
            "what is missing here",
            exit_codes.USAGE,
        )


def problems_of(document: dict[str, Any], loaded: LoadedSettings) -> Sequence[str]:
    """Return why the runs of a flow would fail, a sentence each; add its parameters to the storage if they were found.

    Only what can be known anywhere, if it is not for this host; a note says what was not checked.
    """
    storage, config = document["storage"], document["run_config"]
    defaults = {one["name"]: one["default"] for one in document["parameters"]}
    problems: Sequence[str] = complaints(defaults, parameter_names(storage, None))
    if problems:
        pass
    elif socket.gethostname() not in config["labels"]:
        print_note(f"not checked, because its runs may be on other hosts: {_subject(storage)}")
    else:
        from flowherd.cli.here.check_flow import check_flow

        definition = Definition(name=document["name"], storage=storage, run_config=config, defaults=defaults)
        checked = check_flow(definition, loaded, is_scheduled=document["schedule"] is not None)
        problems = checked.problems
        for sentence in () if problems else places_without_effect(requested_isolation(config)):
            print_warning(sentence)
        if checked.unchecked:
            print_note(f"not checked, because {checked.unchecked}: {_subject(storage)}")
        if checked.parameters is not None:
            storage.setdefault("parameters", list(checked.parameters))
        # What was imported knows more than what was read.
        storage.update(signature_entry(checked.signature))
    return problems


def _subject(storage: dict[str, Any]) -> str:
    if storage["type"] == "Command":
        return f"whether the program {storage['argv'][0]} is found"
    if storage["ref"].endswith(".py"):
        return f"whether {storage['ref']} is Python for its interpreter"
    return f"whether {storage['ref']} can be imported and takes the parameters"
