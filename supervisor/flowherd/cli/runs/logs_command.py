"""`flowherd logs`: a run's log, or several, from the server or from the journals on this host."""

from __future__ import annotations

import heapq
import itertools
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated

import typer

from flowherd.cli import completion, exit_codes, parse_options
from flowherd.cli.failures import CommandError, exit_code_of
from flowherd.cli.open_client import open_client
from flowherd.cli.options import ApiOption, JsonLinesOption, RunsDirOption
from flowherd.cli.printing import is_terminal, print_note
from flowherd.errors import FlowherdError

if TYPE_CHECKING:
    from flowherd.cli.runs.follow import Emit, GrowingLog, Line
    from flowherd.cli.runs.local_runs import LocalRun
    from flowherd.client.runs import RunSummary
    from flowherd.client.user_client import UserClient
    from flowherd.client.wanted_lines import WantedLines
    from flowherd.config import LoadedSettings

_EXAMPLES = """
Examples:

  flowherd logs -f 3f2a

  flowherd logs 3f2a --tail 50

  flowherd logs --flow nightly --errors

  flowherd logs 3f2a 9c01 --since 2h --level WARNING --grep 'timed? out'

  flowherd logs --flow nightly -f

  flowherd logs 3f2a --attempt 1
"""
#: After an error with one of these codes, the journal on this host may still have the log.
_TRY_JOURNAL = (exit_codes.UNREACHABLE, exit_codes.NOT_FOUND)


class _Enough(Exception):
    """As many lines have been shown as were wanted."""


@dataclass(frozen=True, kw_only=True)
class _Request:
    """What is to be shown of which runs."""

    runs: Sequence[str]
    flow: str | None
    project: str | None
    wanted: WantedLines
    tail: int | None
    head: int | None
    attempt: int | None
    follow: bool
    state_dir: str | None


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("logs", epilog=_EXAMPLES)(logs)


def logs(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN...]",
            help="The runs' ids, beginnings of them, or names.",
            autocompletion=completion.runs,
        ),
    ] = None,
    flow: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The runs of this flow: those that run now, else the last one; with -f also those that start later.",
            autocompletion=completion.flows,
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the runs are finished.")] = False,
    tail: Annotated[int | None, typer.Option(min=0, metavar="N", help="Only the last N lines.")] = None,
    head: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N lines.")] = None,
    attempt: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Only the lines of the run's attempt N (`register --retries`)."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only lines from then on: 2h (ago) or ISO 8601, local time.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only lines up to then; as --since.")] = None,
    level: Annotated[
        str | None,
        typer.Option(
            metavar="LEVEL",
            help="Only lines of this level and higher: DEBUG, INFO, WARNING, ERROR, CRITICAL; output is INFO.",
            autocompletion=completion.levels,
        ),
    ] = None,
    stream: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STREAM",
            help="Only lines of this stream: stdout, stderr, log (logging), flowherd; repeatable.",
            autocompletion=completion.streams,
        ),
    ] = None,
    grep: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Only lines in which this is found, as Python's re has it.")
    ] = None,
    errors: Annotated[bool, typer.Option("--errors", help="Only stderr, and lines of level ERROR and higher.")] = False,
    timestamps: Annotated[
        str,
        typer.Option(metavar="WHICH", help="Times to print: local, utc or none.", autocompletion=completion.timestamps),
    ] = "local",
    project: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --flow: its project.", autocompletion=completion.projects),
    ] = None,
    state_dir: RunsDirOption = None,
    api: ApiOption = None,
    as_json: JsonLinesOption = False,
) -> None:
    """Print a run's log: from the backend, or if that does not have it, from the journal on this host.

    The lines of several runs are printed in one, ordered by time, with the run's name in front. With -f it exits 3 if
    the server is stopped for good.
    """
    from flowherd.cli.runs.log_view import TIMESTAMPS, TextView, emit_json
    from flowherd.client.wanted_lines import LEVELS, STREAMS, WantedLines

    _check(runs, flow, project, follow, tail, head, until)
    if attempt is not None and (follow or len(runs or ()) != 1):
        raise CommandError("--attempt is for the log of one run, without -f", exit_codes.USAGE)
    now = datetime.now(timezone.utc)
    wanted = WantedLines(
        since=parse_options.moment_or_ago(since, "--since", now) if since is not None else None,
        until=parse_options.moment_or_ago(until, "--until", now) if until is not None else None,
        level=parse_options.one_of(level, "--level", list(LEVELS)) if level is not None else None,
        streams=frozenset(parse_options.one_of(item, "--stream", STREAMS) for item in stream) if stream else None,
        errors=errors,
        pattern=parse_options.pattern(grep, "--grep") if grep is not None else None,
    )
    view = TextView(parse_options.one_of(timestamps, "--timestamps", TIMESTAMPS))
    request = _Request(
        runs=list(dict.fromkeys(runs or ())),
        flow=flow,
        project=project,
        wanted=wanted,
        tail=tail,
        head=head,
        attempt=attempt,
        follow=follow,
        state_dir=state_dir,
    )
    emit: Emit = emit_json if as_json else view
    try:
        _print(request, api, emit if head is None else _at_most(emit, head))
    except _Enough:
        pass
    finally:
        view.end()


def _check(
    runs: list[str] | None,
    flow: str | None,
    project: str | None,
    follow: bool,
    tail: int | None,
    head: int | None,
    until: str | None,
) -> None:
    if bool(runs) == (flow is not None):
        raise CommandError("give the runs, or a flow with --flow NAME", exit_codes.USAGE)
    if project is not None and flow is None:
        raise CommandError("--project needs --flow", exit_codes.USAGE)
    if tail is not None and head is not None:
        raise CommandError("--tail and --head exclude each other", exit_codes.USAGE)
    if follow and until is not None:
        raise CommandError("-f goes on to the end, so it excludes --until", exit_codes.USAGE)


def _at_most(emit: Emit, count: int) -> Emit:
    """Return what passes on the first `count` lines and raises _Enough then."""
    left = count

    def emit_some(lines: Iterable[Line]) -> None:
        nonlocal left
        some = list(itertools.islice((line for line in lines if not line.so_far), left))
        emit(some)
        left -= len(some)
        if not left:
            raise _Enough

    return emit_some


def _print(request: _Request, api: str | None, emit: Emit) -> None:
    try:
        client, loaded = open_client(api)
        found = _found(client, request)
        if request.attempt is not None:
            request = replace(request, wanted=_of_attempt(client, found[0], request.attempt, request.wanted))
    except FlowherdError as error:
        if request.flow is not None or request.attempt is not None or exit_code_of(error) not in _TRY_JOURNAL:
            raise
        _print_journals(request, error, emit)
        return
    if request.follow:
        _follow(client, loaded, request, found, emit)
    else:
        _print_logs(client, loaded, request, found, emit)


def _of_attempt(client: UserClient, run: RunSummary, number: int, wanted: WantedLines) -> WantedLines:
    attempts = client.attempts(run.id)
    journals = attempts.journals(number)
    if journals is None:
        raise CommandError(
            f"run {run.name} has no attempt {number}; its latest is {attempts.latest}", exit_codes.NOT_FOUND
        )
    return replace(wanted, journals=journals)


def _found(client: UserClient, request: _Request) -> list[RunSummary]:
    """Return the runs that are meant, as they are now. Raises NotFound or InvalidRequest."""
    from flowherd.client.lookup import find_flow, find_run

    if request.flow is None:
        return list({run.id: run for run in (find_run(client, text) for text in request.runs)}.values())
    find_flow(client, request.flow, request.project)
    started = client.started_runs(request.flow, request.project)
    last = None if request.follow else started.newest()
    running = [] if request.follow else started.running()
    return running or ([last] if last is not None else [])


def _print_logs(
    client: UserClient, loaded: LoadedSettings, request: _Request, runs: Sequence[RunSummary], emit: Emit
) -> None:
    """Print the logs at the backend; of a run of which that has no lines, the journal on this host."""
    if not runs:
        print_note(f"no run of {request.flow} has started; `flowherd run {request.flow}` starts one")
    shown = runs if len(runs) > 1 else [None] * len(runs)
    batches = [_batches(client, loaded, request, run, name) for run, name in zip(runs, shown, strict=True)]
    empty = True

    def notice(lines: Iterable[Line]) -> Iterator[Line]:
        nonlocal empty
        for line in lines:
            empty = False
            yield line

    _emit_merged(batches, request.tail, lambda lines: emit(notice(lines)))
    if empty and runs and request.tail != 0 and is_terminal():
        about = ", ".join(f"{run.name} is {run.state}" for run in runs)
        print_note(f"no lines to show: {about}; `flowherd explain RUN` tells more about a run")


def _batches(
    client: UserClient, loaded: LoadedSettings, request: _Request, run: RunSummary, shown: RunSummary | None
) -> Iterator[list[Line]]:
    from flowherd.cli.runs.follow import BackendLog, journal_batches
    from flowherd.cli.runs.local_runs import JournalTail
    from flowherd.cli.runs.lookup import find_local_run

    log = BackendLog(client, run.id, wanted=request.wanted, tail=request.tail, run=shown)
    yield from log.new_batches()
    has_lines = log.has_lines or request.attempt is not None
    local = None if has_lines else find_local_run(run.id, loaded, request.state_dir)
    if local is not None:
        yield from journal_batches(JournalTail(local), wanted=request.wanted, tail=request.tail, run=shown)


def _emit_merged(logs: Sequence[Iterator[list[Line]]], tail: int | None, emit: Emit) -> None:
    """Emit the lines of logs, each of which is ordered, as one that is ordered by time; with `tail` the last ones."""
    if len(logs) == 1:
        for lines in logs[0]:
            emit(lines)
        return
    merged = heapq.merge(*map(itertools.chain.from_iterable, logs), key=lambda line: line.at)
    emit(merged if tail is None else deque(merged, tail))


def _follow(
    client: UserClient, loaded: LoadedSettings, request: _Request, runs: Sequence[RunSummary], emit: Emit
) -> None:
    from flowherd.cli.runs.follow import GrowingLog, follow_run, silence_of
    from flowherd.cli.runs.follow_many import follow_many
    from flowherd.cli.runs.lookup import find_local_run

    if request.flow is None and len(runs) == 1:
        place, wanted, tail = request.state_dir, request.wanted, request.tail
        follow_run(client, loaded, runs[0].id, emit, state_dir=place, wanted=wanted, tail=tail)
        return

    def open_log(run: RunSummary, is_first_look: bool) -> GrowingLog:
        def local() -> LocalRun | None:
            return find_local_run(run.id, loaded, request.state_dir)

        tail = request.tail if is_first_look else None
        return GrowingLog(client, run.id, local, wanted=request.wanted, tail=tail, run=run)

    def look_at_given(_watched: Collection[str]) -> Sequence[RunSummary]:
        return client.runs.by_ids({run.id for run in runs})

    flow = request.flow
    look = look_at_given if flow is None else client.started_runs(flow, request.project).look
    follow_many(look, open_log, emit, silence_of(client, loaded), is_endless=flow is not None)


def _print_journals(request: _Request, error: Exception, emit: Emit) -> None:
    """Print the journals on this host, because the backend does not answer or has no such run."""
    from flowherd.cli.runs.follow import POLL_S, journal_batches
    from flowherd.cli.runs.local_runs import JournalTail
    from flowherd.cli.runs.lookup import find_local_run
    from flowherd.client.runs import RunSummary
    from flowherd.config import load_settings

    loaded = load_settings()
    found = [find_local_run(text, loaded, request.state_dir) for text in request.runs]
    local = list({run.id: run for run in found if run is not None}.values())
    if None in found:
        raise error
    print_note(f"from the journal in {', '.join(str(run.directory) for run in local)}, because {error}")
    several = len(local) > 1
    names = [RunSummary(id=run.id, name=run.name, state="", message=None) if several else None for run in local]
    tails, tail = [JournalTail(run) for run in local], request.tail
    while True:
        ended = all(run.ended for run in local)
        parts = zip(tails, names, strict=True)
        logs = [journal_batches(part, wanted=request.wanted, tail=tail, run=name) for part, name in parts]
        _emit_merged(logs, tail, emit)
        if ended or not request.follow:
            return
        tail = None
        time.sleep(POLL_S)
