"""`flowherd logs`: a run's log, from the backend or from the journal on this host."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError
from flowherd.cli.open_client import open_client
from flowherd.cli.options import ApiOption, JsonLinesOption, RunArgument, RunsDirOption
from flowherd.cli.printing import print_note
from flowherd.errors import BackendUnavailable

if TYPE_CHECKING:
    from flowherd.cli.runs.follow import Emit
    from flowherd.client.user_client import UserClient
    from flowherd.config import LoadedSettings

#: After an error with one of these codes, the journal on this host may still have the log.
_TRY_JOURNAL = (exit_codes.UNREACHABLE, exit_codes.NOT_FOUND)


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("logs", epilog="Example:  flowherd logs -f 3f2a")(logs)


def logs(
    run: RunArgument,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the run is finished.")] = False,
    state_dir: RunsDirOption = None,
    api: ApiOption = None,
    as_json: JsonLinesOption = False,
) -> None:
    """Print a run's log: from the backend, or if that does not have it, from the journal on this host."""
    from flowherd.cli.runs.log_view import TextView, emit_json

    if as_json:
        _print(run, state_dir, api, emit_json, follow=follow)
        return
    view = TextView()
    try:
        _print(run, state_dir, api, view, follow=follow)
    finally:
        view.end()


def _print(run: str, state_dir: str | None, api: str | None, emit: Emit, *, follow: bool) -> None:
    from flowherd.cli.runs.follow import follow_run
    from flowherd.cli.runs.lookup import find_run

    try:
        client, loaded = open_client(api)
        found = find_run(client, run)
    except (BackendUnavailable, CommandError) as error:
        if isinstance(error, CommandError) and error.exit_code not in _TRY_JOURNAL:
            raise
        _print_journal(run, state_dir, error, emit, follow=follow)
        return
    if follow:
        follow_run(client, loaded, found.id, emit, state_dir=state_dir)
    else:
        _print_log(client, loaded, found.id, state_dir, emit)


def _print_log(client: UserClient, loaded: LoadedSettings, run_id: str, state_dir: str | None, emit: Emit) -> None:
    """Print the log at the backend; if that has no lines, the journal on this host."""
    from flowherd.cli.runs.follow import BackendLog, emit_journal
    from flowherd.cli.runs.local_runs import JournalTail
    from flowherd.cli.runs.lookup import find_local_run

    log = BackendLog(client, run_id)
    log.emit_new(emit)
    local = None if log.has_lines else find_local_run(run_id, loaded, state_dir)
    if local is not None:
        emit_journal(JournalTail(local), emit)


def _print_journal(text: str, state_dir: str | None, error: Exception, emit: Emit, *, follow: bool) -> None:
    """Print the journal on this host, because the backend does not answer or has no such run."""
    from flowherd.cli.runs.follow import POLL_S, emit_journal
    from flowherd.cli.runs.local_runs import JournalTail
    from flowherd.cli.runs.lookup import find_local_run
    from flowherd.config import load_settings

    local = find_local_run(text, load_settings(), state_dir)
    if local is None:
        raise error
    print_note(f"from the journal in {local.directory}, because {error}")
    tail = JournalTail(local)
    while True:
        ended = local.ended
        emit_journal(tail, emit)
        if ended or not follow:
            return
        time.sleep(POLL_S)
