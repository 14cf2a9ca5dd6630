"""`flowherd apply`: the flows of a project become what a file says."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from flowherd.cli import completion, exit_codes
from flowherd.cli.failures import CommandError
from flowherd.cli.open_client import open_client
from flowherd.cli.options import ApiOption, JsonOption
from flowherd.cli.printing import print_error, print_json
from flowherd.errors import BackendRefused, BackendUnavailable

if TYPE_CHECKING:
    from flowherd.cli.apply.project_file import ProjectFile
    from flowherd.client.flows_of_project import Applied, FlowChange
    from flowherd.client.user_client import UserClient
    from flowherd.config import LoadedSettings

_EXAMPLES = """
Examples:

  flowherd apply --dry-run

  flowherd apply

  flowherd apply deploy/flows.toml --prune

  flowherd import crontab | flowherd apply -
"""


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("apply", epilog=_EXAMPLES)(apply)


def apply(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="The project file, or - for standard input.",
            autocompletion=completion.toml_files,
        ),
    ] = "flows.toml",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what would change and change nothing; exit with 1 if anything would."),
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Unregister flows that the project had and that the file has no longer.")
    ] = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Change flows of these names that were registered in another way, too.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check/--no-check",
            help="Check first whether the runs of flows that differ could be started on this host.",
        ),
    ] = True,
    api: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the flows of a project what a file says, flows.toml, and show what has changed.

    All of it is done, or nothing. Only flows that an earlier `apply` of the same project has registered are changed,
    and they are unregistered only with --prune. What `register` checks is checked of the flows that differ.
    """
    from flowherd.cli.apply.project_file import read_project_file

    declared = read_project_file(file, datetime.now(timezone.utc), check=check)
    _refuse(declared.problems, file)
    client, loaded = open_client(api)
    _refuse_other_servers(client)
    if declared.rules and not client.flows_of_project.takes_rules():
        raise CommandError(f"{client.address} sends no notifications, so it cannot apply the rules [[notify]]")
    request = partial(_request, client, declared, prune=prune, take_over=take_over)
    applied = request(dry_run=True) if check or dry_run else None
    if check and applied is not None:
        differing = {change.name for change in applied.flows if change.differences}
        _refuse(_problems(declared, differing, loaded), file, "; --no-check applies it as it is")
    if applied is None or not dry_run:
        applied = request(dry_run=False)
        _keep(declared, applied.flows, loaded)
    _show(declared, applied, dry_run=dry_run, as_json=as_json)
    changes = any(each.action not in ("same", "left") for each in applied.flows)
    if dry_run and (changes or applied.rules_before != applied.rules):
        raise typer.Exit(exit_codes.FAILED)


def _refuse(problems: Sequence[str], file: str, hint: str = "") -> None:
    for problem in problems:
        print_error(problem)
    if problems:
        raise CommandError(f"nothing was applied; correct {file} first{hint}", exit_codes.USAGE)


def _refuse_other_servers(client: UserClient) -> None:
    if not client.flows_of_project.can_apply():
        raise CommandError(
            f"{client.address} cannot apply a project file, because it does not change all flows in one transaction: "
            "only flowherd's own server does, from release 0.2 on; register the flows there one by one with "
            "`flowherd register`"
        )


def _problems(declared: ProjectFile, differing: Collection[str], loaded: LoadedSettings) -> list[str]:
    """Return why the runs of the flows that differ could not be started on this host."""
    from flowherd.cli.flows.check_document import problems_of

    return [
        f"{declared.place(flow.name)}: flows.{flow.name}: {problem}"
        for flow in declared.flows
        if flow.name in differing
        for problem in problems_of(flow.document, loaded)
    ]


def _request(client: UserClient, declared: ProjectFile, *, prune: bool, take_over: bool, dry_run: bool) -> Applied:
    documents = [flow.document for flow in declared.flows]
    try:
        return client.flows_of_project.apply(
            declared.project, documents, rules=declared.rules, prune=prune, take_over=take_over, dry_run=dry_run
        )
    except BackendRefused as error:
        hint = "; --take-over lets the file have them" if "not from a project file" in str(error) else ""
        raise CommandError(f"nothing was applied: {error}{hint}") from error
    except BackendUnavailable as error:
        if dry_run:
            raise
        raise CommandError(
            f"{error}; the server has applied either the whole file or nothing of it: apply it again, and what is "
            "done already stays as it is",
            exit_codes.UNREACHABLE,
        ) from error


def _keep(declared: ProjectFile, changes: Sequence[FlowChange], loaded: LoadedSettings) -> None:
    """Keep copies of the flows for `run --here`, as `register` and `unregister` do."""
    from flowherd.cli.here.kept_definitions import forget_definition, keep_definition

    for flow in declared.flows:
        keep_definition(loaded.paths.home, declared.project, flow.document)
    for change in changes:
        if change.action == "unregistered":
            forget_definition(loaded.paths.home, declared.project, change.name)


def _show(declared: ProjectFile, applied: Applied, *, dry_run: bool, as_json: bool) -> None:
    from flowherd.cli.apply.show_changes import show_changes

    if as_json:
        flows = [_fields(each, dry_run) for each in applied.flows]
        rules = {"before": applied.rules_before, "after": applied.rules}
        print_json({"project": declared.project, "dry_run": dry_run, "flows": flows, "notify": rules})
    else:
        show_changes(declared, applied, dry_run=dry_run)


def _fields(change: FlowChange, dry_run: bool) -> dict[str, object]:
    from flowherd.cli.apply.show_changes import shown

    differences = [
        {"key": each.key, "before": shown(each.key, each.before), "after": shown(each.key, each.after)}
        for each in change.differences
    ]
    is_new = change.action == "registered" or bool(differences)
    # A version that would be registered has no id yet.
    return {**vars(change), "id": None if dry_run and is_new else change.id, "differences": differences}
