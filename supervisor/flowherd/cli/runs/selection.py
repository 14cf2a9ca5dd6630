"""The runs that a command is for: named one by one, or read from standard input; and asking before they are changed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from flowherd.cli import completion, exit_codes
from flowherd.cli.failures import CommandError
from flowherd.cli.printing import print_note
from flowherd.shown_text import one_line

if TYPE_CHECKING:
    from flowherd.client.runs import RunView
    from flowherd.client.user_client import UserClient

RunsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN...",
        help="Each run's id, the beginning of it, or its name; - reads ids from standard input, one a line.",
        autocompletion=completion.runs,
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

#: In the place of a run: read ids from standard input.
STANDARD_INPUT = "-"
#: Maximum number of runs that a question lists.
_MAX_LISTED = 10
#: Number of an id's first characters that a question shows.
_SHORT_ID = 8


def chosen_runs(client: UserClient, texts: Sequence[str] | None) -> list[RunView]:
    """Return the runs that the arguments name, once each.

    Raises CommandError without any, NotFound or InvalidRequest for one that names no run or several.
    """
    from flowherd.client.lookup import find_runs

    if not texts:
        raise CommandError(
            "which runs? Name them by id or name, or give - and their ids on standard input", exit_codes.USAGE
        )
    return find_runs(client, [word for text in texts for word in (_ids_read() if text == STANDARD_INPUT else [text])])


def is_one(texts: Sequence[str] | None) -> bool:
    """Return whether the arguments name exactly one run."""
    return texts is not None and len(texts) == 1 and texts[0] != STANDARD_INPUT


def confirm(question: str, runs: Sequence[RunView], yes: bool) -> None:
    """Return if the person says yes to what is to be done with these runs, or `yes` says it.

    Raises CommandError if not, or if there is no terminal to ask at.
    """
    if yes:
        return
    for run in runs[:_MAX_LISTED]:
        print_note(f"  {run.id[:_SHORT_ID]}  {run.state:<9}  {run.flow}  {run.name}")
    if len(runs) > _MAX_LISTED:
        print_note(f"  … {len(runs) - _MAX_LISTED} more")
    ask(question)


def ask(question: str) -> None:
    """Ask on standard error and return if the answer is yes.

    Raises CommandError if it is not, or if there is no terminal to ask at.
    """
    if not sys.stdin.isatty():
        raise CommandError(f"{question} There is no terminal to ask at: --yes does it", exit_codes.USAGE)
    print(f"{one_line(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandError("nothing was changed")


def _ids_read() -> list[str]:
    """Return the first word of each line of standard input: ids, or the rows of `flowherd ps` without their titles."""
    words = [line.split()[0] for line in sys.stdin if line.strip()]
    return words[1:] if words[:1] == ["ID"] else words
