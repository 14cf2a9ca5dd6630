"""The runs that a command is for: named, read from standard input, or all that match; and asking before a change."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Annotated, Any

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
        metavar="RUN",
        help="Each run's id, the beginning of it, or its name; - reads ids from standard input, one a line.",
        autocompletion=completion.runs,
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

#: Maximum number of runs that filters choose.
MOST_MATCHING = 10_000
#: In the place of a run: read ids from standard input.
STANDARD_INPUT = "-"
#: Maximum number of runs that a question lists.
_MAX_LISTED = 10
#: Number of an id's first characters that a question shows.
_SHORT_ID = 8


def chosen_runs(
    client: UserClient, texts: Sequence[str] | None, states: Collection[str] = (), **filters: Any
) -> list[RunView]:
    """Return the runs that the arguments name, once each, or without those the runs that the filters let through.

    `filters` are the values of the options in run_filters.py; without --state only runs in `states` match. Raises
    CommandError without any argument and filter, or with both; NotFound or InvalidRequest for an argument that names
    no run or several.
    """
    from flowherd.client.lookup import find_runs

    has_filter = any(filters.values())
    if texts and has_filter:
        raise CommandError("name the runs, or give filters such as --flow, not both", exit_codes.USAGE)
    if texts:
        words = [word for text in texts for word in (_ids_read() if text == STANDARD_INPUT else [text])]
        if not words:
            print_note("standard input names no run")
        return find_runs(client, words)
    if has_filter:
        return _matching(client, states, **filters)
    others = " or filters such as --flow" if filters else ""
    raise CommandError(
        f"which runs? Give their ids or names, - to read ids from standard input{',' if others else ''}{others}",
        exit_codes.USAGE,
    )


def _matching(
    client: UserClient, states: Collection[str], *, state: Sequence[str] | None, **filters: Any
) -> list[RunView]:
    from flowherd.cli.runs.run_filters import run_filter, states_named

    wanted = run_filter(client.agents.all(), states=states_named(state) or sorted(states), **filters)
    found = client.run_list.matching(wanted, MOST_MATCHING + 1)
    if len(found) > MOST_MATCHING:
        print_note(f"more than {MOST_MATCHING:,} runs match; this is for the newest {MOST_MATCHING:,} of them")
    elif not found:
        print_note("no run matches")
    return found[:MOST_MATCHING]


def is_one(texts: Sequence[str] | None) -> bool:
    """Return whether the arguments name exactly one run."""
    return texts is not None and len(texts) == 1 and texts[0] != STANDARD_INPUT


def confirm(question: str, runs: Sequence[RunView], yes: bool) -> None:
    """Return if the person says yes to what is to be done with these runs, or `yes` says it, or there are none.

    Raises CommandError if not, or if there is no terminal to ask at.
    """
    if yes or not runs:
        return
    _check_terminal(question)
    from shutil import get_terminal_size

    from flowherd.cli.tables import Column, Cut, table_lines

    columns: list[Column[RunView]] = [
        Column("ID", lambda run: run.id[:_SHORT_ID]),
        Column("STATE", lambda run: run.state),
        Column("FLOW", lambda run: run.flow, cut=Cut.MIDDLE),
        Column("NAME", lambda run: run.name, cut=Cut.MIDDLE),
    ]
    lines = table_lines(columns, runs[:_MAX_LISTED], get_terminal_size().columns)
    if len(runs) > _MAX_LISTED:
        lines.append(f"… {len(runs) - _MAX_LISTED:,} more")
    print("\n".join(lines), file=sys.stderr)
    ask(question)


def counted(number: int, what: str) -> str:
    """Return a number of things in words: "1 run", "2,000 runs"."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def ask(question: str) -> None:
    """Ask on standard error and return if the answer is yes.

    Raises CommandError if it is not, or if there is no terminal to ask at.
    """
    from shutil import get_terminal_size
    from textwrap import fill

    _check_terminal(question)
    text = fill(f"{one_line(question)} [y/N]", max(20, get_terminal_size().columns - 1), break_on_hyphens=False)
    print(text, end=" ", file=sys.stderr, flush=True)
    try:
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        print(file=sys.stderr)
        raise
    if not answer.endswith("\n"):  # Ctrl-D
        print(file=sys.stderr)
    if answer.strip().lower() not in ("y", "yes"):
        raise CommandError("nothing was changed")


def _check_terminal(question: str) -> None:
    if not sys.stdin.isatty():
        raise CommandError(
            f"nothing was changed, because there is no terminal to ask at: {question} Give --yes to say yes",
            exit_codes.USAGE,
        )


def _ids_read() -> list[str]:
    """Return the first word of each line of standard input: ids, or the rows of `flowherd ps` without their titles."""
    words = [line.split()[0] for line in sys.stdin if line.strip()]
    return words[1:] if words[:1] == ["ID"] else words
