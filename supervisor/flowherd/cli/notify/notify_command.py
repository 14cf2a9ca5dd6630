"""`flowherd notify`: list channels, rules and the newest notifications, and try the channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flowherd.cli import completion, exit_codes
from flowherd.cli.failures import CommandError
from flowherd.cli.format_times import short_span
from flowherd.cli.options import ApiOption, JsonArrayOption, JsonOption
from flowherd.cli.printing import print_json, print_line, print_note, print_table

if TYPE_CHECKING:
    from flowherd.client.notifications import NotificationView, RuleView

_LIST_EXAMPLE = "Example:  flowherd notify list --json | jq '.newest[] | select(.state == \"failing\")'"
_TEST_EXAMPLES = """
Examples:

  flowherd notify test

  flowherd notify test ops --timeout 10
"""


def add_to(app: typer.Typer) -> None:
    """Add the command and its own commands to the program."""
    text = "List the channels and rules of notifications and what became of the newest ones, or try the channels."
    family = typer.Typer(help=text, no_args_is_help=True)
    family.command("list", epilog=_LIST_EXAMPLE)(list_notifications)
    family.command("test", epilog=_TEST_EXAMPLES)(test)
    app.add_typer(family, name="notify")


def list_notifications(api: ApiOption = None, as_json: JsonOption = False) -> None:
    """List channels, rules and the newest notifications, of flowherd's server or the agent of a Prefect 3 pool."""
    from flowherd.cli.notify.sources import open_source

    source = open_source(api)
    channels, rules, newest = source.channels(), source.rules(), source.newest()
    if as_json:
        print_json(
            {
                "channels": [vars(each) for each in channels],
                "rules": [{"project": each.project, **each.rule} for each in rules],
                "newest": [{**vars(each), "state": each.state} for each in newest],
            }
        )
        return
    if not channels:
        print_note("there are no channels; the settings notify.channels and notify.rules make some")
        return
    print_table(("CHANNEL", "KIND", "WHERE TO"), [(each.name, each.kind, each.place) for each in channels])
    print_line("")
    if rules:
        print_table(("RULE OF", "ON", "FLOWS", "LABELS", "TO"), [_rule(each) for each in rules])
    else:
        print_note("there are no rules, so nothing is notified; the setting notify.rules makes some")
    if newest:
        print_line("")
        print_table(("WHEN", "CHANNEL", "STATE", "WHAT"), [_notification(each) for each in newest])


def test(
    channels: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CHANNEL...]", help="Names of channels; all if none.", autocompletion=completion.channels
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How long to wait for each delivery.")
    ] = 60.0,
    api: ApiOption = None,
    as_json: JsonArrayOption = False,
) -> None:
    """Send a test to channels on the way that notifications go, and say what became of it. Exits 1 if one fails."""
    from flowherd.cli.notify.sources import open_source

    tried = open_source(api).test(channels or [], timeout)
    if as_json:
        print_json([vars(each) for each in tried])
    for each in tried if not as_json else ():
        print_line(f"{each.channel}: {'delivered' if each.delivered else f'not delivered: {each.error}'}")
    if not tried:
        raise CommandError("there are no channels; the setting notify.channels makes some", exit_codes.NOT_FOUND)
    if not all(each.delivered for each in tried):
        raise typer.Exit(exit_codes.FAILED)


def _rule(view: RuleView) -> tuple[str, ...]:
    lists = {name: view.rule.get(name) or [] for name in ("on", "flows", "labels", "to")}
    texts = {name: " ".join(map(str, value)) if isinstance(value, list) else "" for name, value in lists.items()}
    every = " (each failure)" if view.rule.get("every_failure") else ""
    return (
        "the settings" if view.project is None else f"project {view.project}",
        texts["on"] + every,
        texts["flows"] or "any",
        texts["labels"] or "any",
        texts["to"] or "all channels",
    )


def _notification(view: NotificationView) -> tuple[str, ...]:
    from datetime import datetime, timezone

    now = datetime.now(timezone.utc)
    when = "" if view.created is None else f"{short_span((now - view.created).total_seconds())} ago"
    why = f" ({view.error})" if view.error and view.state in ("failing", "given up") else ""
    return when, view.channel, view.state, f"{view.title}{why}"
