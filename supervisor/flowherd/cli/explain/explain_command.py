"""`flowherd explain`: one run's story, from the backend, from its directory and from the agents of this host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowherd.cli.exit_codes import USAGE
from flowherd.cli.explain.at_backend import AtBackend, ask_backend
from flowherd.cli.explain.program_story import complete_programs, show_program
from flowherd.cli.failures import CommandError
from flowherd.cli.options import ApiOption, JsonOption, RunArgument, RunsDirOption
from flowherd.cli.printing import is_terminal, print_json, print_line, print_note, print_table

if TYPE_CHECKING:
    from flowherd.client.runs import RunView
    from flowherd.config import LoadedSettings
    from flowherd.host.store.local_facts import LocalFacts
    from flowherd.story.account import Account
    from flowherd.story.timeline import StoryLine, TimelineEntry


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("explain", epilog="Examples:  flowherd explain 3f2a\n\nflowherd explain --program web")(explain)


def explain(
    run: RunArgument = "",
    program: Annotated[
        str | None,
        typer.Option(
            "--program",
            metavar="NAME",
            help="Show what became of a program of supervisord instead, as its event listener has logged it.",
            autocompletion=complete_programs,
        ),
    ] = None,
    phases: Annotated[
        bool, typer.Option("--phases", help="Show only the steps of the run, with the milliseconds between them.")
    ] = False,
    show_all: Annotated[
        bool, typer.Option("--all", help="Show every entry and whole sentences, also if they need several screens.")
    ] = False,
    state_dir: RunsDirOption = None,
    api: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a run's story: why it waits, who claimed it, its processes, how far its log was sent, why it ended.

    The story comes from the backend, and on the host where the run was also from its directory. A terminal shows as
    much as fits on its screen, the most important first; in a pipe nothing is cut.
    """
    if (program is None) == (not run):
        raise CommandError("name a run, or with --program a program of supervisord", USAGE)
    if program is not None:
        show_program(program, state_dir, show_all=show_all, as_json=as_json)
        return
    if phases:
        _show_phases(run, api, state_dir, as_json)
        return
    story = _story(run, api, state_dir)
    if as_json:
        print_json(story)
    elif show_all or not is_terminal():
        _print(story)
    else:
        _print_short(story)


def _story(text: str, api: str | None, state_dir: str | None) -> dict[str, Any]:
    from flowherd.config import load_settings

    backend = ask_backend(text, api)
    loaded = load_settings()
    local = _in_directory(backend.run.id if backend.run else text, loaded, state_dir)
    if backend.error is not None and local is None:
        raise backend.error
    last = backend.states[-1] if backend.states else None
    waits, evidence = _waiting(backend, loaded, state_dir), _evidence(backend, local)
    of_host = _local_facts(local, backend.account)
    run_id = backend.run.id if backend.run is not None else local.path.name if local is not None else text
    return {
        **_identity(backend.run, local),
        "agent": backend.agent_name,
        "reason": last.reason if last else None,
        "grade": last.grade if last else None,
        "evidence": evidence,
        **_verdict(backend, local, waits, evidence, of_host["leftovers"]),
        "waiting": waits,
        "attempts": _attempts(backend),
        **_happened(backend, local),
        **of_host,
        "survivors": _survivors(run_id, loaded, state_dir),
        "backend_error": str(backend.error) if backend.error else None,
    }


def _show_phases(text: str, api: str | None, state_dir: str | None, as_json: bool) -> None:
    from flowherd.cli.explain import phases
    from flowherd.config import load_settings

    backend = ask_backend(text, api, with_phases=True)
    local = _in_directory(backend.run.id if backend.run else text, load_settings(), state_dir)
    if backend.error is not None and local is None:
        raise backend.error
    stored = phases.StoredTimes(first_line=backend.first_line, changed=backend.changed)
    found = phases.phases(backend.run, backend.states, stored, local)
    if as_json:
        identity = {name: value for name, value in _identity(backend.run, local).items() if name != "labels"}
        print_json(phases.as_json(found, identity))
        return
    print_table(("STEP", "MS", "STEP MS", "MEANING"), phases.as_rows(found))
    missing = [step.phase for step in found if step.at is None]
    if missing:
        print_note(f"not recorded: {', '.join(missing)}")


def _waiting(backend: AtBackend, loaded: LoadedSettings, state_dir: str | None) -> list[str]:
    from flowherd.story.waiting import run_waits, tasks_wait

    if backend.run is None:
        return []
    now = datetime.now(timezone.utc)
    run = run_waits(backend.run, backend.agents, _agents_here(loaded, state_dir), now)
    return [*run, *tasks_wait(backend.tasks, now)]


def _attempts(backend: AtBackend) -> list[dict[str, Any]]:
    from flowherd.cli.explain.attempt_lines import attempts_as_json

    return attempts_as_json(backend.attempts)


def _happened(backend: AtBackend, local: LocalFacts | None) -> dict[str, Any]:
    from flowherd.host.store.local_facts import log_progress
    from flowherd.story.timeline import story, timeline

    known = (backend.run, backend.states, backend.notices, _events(backend, local))
    agents = (backend.agent_name, backend.earlier_agents)
    return {
        "timeline": [asdict(entry) for entry in timeline(*known, *agents)],
        "story": [asdict(line) for line in story(*known, *agents)],
        "log": log_progress(local),
    }


def _events(backend: AtBackend, local: LocalFacts | None) -> list[TimelineEntry]:
    """Return what happened on the host, by the host itself if it is this one."""
    from flowherd.host.store.local_facts import entries_of
    from flowherd.story.timeline import events_of

    return entries_of(local) if local is not None else events_of(backend.account)


def _verdict(
    backend: AtBackend, local: LocalFacts | None, waits: Sequence[str], evidence: str | None, left: Sequence[str]
) -> dict[str, Any]:
    """Return the verdict as an object; None if the backend does not have the run."""
    from flowherd.story.verdict import EndFacts, kept_apart, live_facts, verdict

    if backend.run is None:
        return {"verdict": None}
    last = backend.states[-1] if backend.states else None
    reason, grade = (last.reason, last.grade) if last is not None else (None, None)
    level = kept_apart(reason, _events(backend, local))
    end = EndFacts(reason=reason, grade=grade, evidence=evidence or "", leftovers=left, kept_apart=level)
    live, now = live_facts(backend.run, backend.agent_name), datetime.now(timezone.utc)
    return {"verdict": asdict(verdict(backend.run, now=now, end=end, live=live, waits=waits))}


def _local_facts(local: LocalFacts | None, account: Account | None) -> dict[str, Any]:
    from flowherd.host.store.local_facts import leftovers

    return {
        "journal_bytes": local.journal_bytes if local else None,
        "forwarded_bytes": local.forwarded_bytes if local else None,
        "leftovers": leftovers(local) or list(account.leftovers if account else ()),
        "directory": local.path if local else None,
        "runner_alive": local.runner_alive if local else None,
        "damage": local.damage if local else [],
    }


def _in_directory(text: str, loaded: LoadedSettings, state_dir: str | None) -> LocalFacts | None:
    from flowherd.cli.runs.lookup import find_local_run
    from flowherd.host.store.local_facts import local_facts
    from flowherd.host.store.run_directory import RunDirectory

    local = find_local_run(text, loaded, state_dir)
    return local_facts(RunDirectory(local.directory, local.id)) if local is not None else None


def _agents_here(loaded: LoadedSettings, state_dir: str | None) -> dict[str, dict[str, Any]]:
    """Return what the running agents of this host report about themselves, by name."""
    from flowherd.agent.control_path import SOCKET_FILE
    from flowherd.cli.agent.agent_client import AgentClient

    places = _state_directories(loaded, state_dir, SOCKET_FILE)
    answers = (AgentClient.in_directory(place, place.name).look() for place in places)
    return {str(facts["agent"]): facts for facts in answers if facts is not None}


def _survivors(run_id: str, loaded: LoadedSettings, state_dir: str | None) -> list[str]:
    """Return the processes of the run that could not be ended and still live on this host."""
    from flowherd.host.store.survivors import SURVIVORS_FILE, living_survivors

    places = _state_directories(loaded, state_dir, SURVIVORS_FILE)
    return [str(one) for place in sorted(places) for one in living_survivors(place) if one.flow_run_id == run_id]


def _state_directories(loaded: LoadedSettings, state_dir: str | None, file: str) -> set[Path]:
    """Return the state directories of this home's agents that have `file`, and the configured and the given one."""
    places = {path.parent for path in loaded.paths.agents_dir.glob(f"*/{file}")} | {loaded.paths.state_dir}
    if state_dir is not None:
        places.add(Path(state_dir).expanduser().absolute())
    return places


def _evidence(backend: AtBackend, local: LocalFacts | None) -> str | None:
    """Return the evidence for the cause of the end: of the exit record, of the account, or of the log."""
    from flowherd.story.verdict import logged_evidence

    if local is not None and local.exit:
        return str(local.exit.get("evidence"))
    if backend.account is not None and backend.account.evidence:
        return backend.account.evidence
    return None if backend.run is None else logged_evidence(backend.run, backend.notices)


def _identity(found: RunView | None, local: LocalFacts | None) -> dict[str, Any]:
    if found is not None:
        labels = list(found.labels)
        return {
            "id": found.id,
            "name": found.name,
            "flow": found.flow,
            "state": found.state,
            "message": found.message,
            "labels": labels,
        }
    spec = local.spec if local is not None else {}
    return {
        "id": spec.get("flow_run_id"),
        "name": spec.get("flow_run_name"),
        "flow": spec.get("flow_name"),
        "state": None,
        "message": None,
        "labels": None,
    }


def _print_short(story: dict[str, Any]) -> None:
    from flowherd.cli.explain.short_view import short_view
    from flowherd.cli.tables.fold import Screen
    from flowherd.story.timeline import StoryLine

    screen = Screen()
    if story["backend_error"]:
        screen.add(f"only from {story['directory']}, because {story['backend_error']}", most=3)
    lines: list[StoryLine] = [StoryLine(**item) for item in story["story"]]
    short_view(story, lines, datetime.now(timezone.utc), screen)
    print("\n".join(screen.lines()), flush=True)


def _print(story: dict[str, Any]) -> None:
    from flowherd.cli.explain.attempt_lines import attempt_line
    from flowherd.cli.explain.short_view import verdict_sentences
    from flowherd.cli.explain.shown import shown_time
    from flowherd.story.timeline import TimelineEntry

    state = story["state"] or "state not known"
    print_line(f"{story['name']} ({story['id']}), a run of {story['flow']}: {state}")
    if story["backend_error"]:
        print_note(f"only from {story['directory']}, because {story['backend_error']}")
    for sentence in verdict_sentences(story):
        print_line(sentence)
    for attempt in story["attempts"]:
        print_line(attempt_line(attempt))
    now = datetime.now(timezone.utc)
    entries: list[TimelineEntry] = [TimelineEntry(**item) for item in story["timeline"]]
    table = [(shown_time(entry.at, now), entry.what, entry.detail) for entry in entries]
    print_table(("TIME", "WHAT", "DETAIL"), table)
    if story["log"]:
        print_line("log: " + "; ".join(story["log"]) + ".")
    for problem in story["damage"]:
        print_line(f"damaged: {problem}")
    if story["survivors"]:
        print_line("still running, could not be ended: " + ", ".join(story["survivors"]) + ".")
