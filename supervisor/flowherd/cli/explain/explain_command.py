"""`flowherd explain`: why a run did not start, why it ended, and all between, from every source at once."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowherd.cli import exit_codes
from flowherd.cli.api_address import open_client
from flowherd.cli.failures import CommandError
from flowherd.cli.options import ApiOption, RunArgument
from flowherd.cli.output import note, print_json, print_table, say
from flowherd.errors import BackendUnavailable
from flowherd.states import RunState

if TYPE_CHECKING:
    from flowherd.cli.explain.explanation import Happening, LocalFacts
    from flowherd.client.history import NoticeView, StateView, WaitingTaskView
    from flowherd.client.user import AgentView, RunView
    from flowherd.config import LoadedSettings

#: After these, this host's directories may still know the run.
_TRY_DIRECTORY = (exit_codes.UNREACHABLE, exit_codes.NOT_FOUND)


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    app.command("explain", epilog="Example:  flowherd explain 3f2a")(explain)


def explain(
    run: RunArgument,
    state_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="The agent's state directory, if it is not under the home.")
    ] = None,
    api: ApiOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print an object.")] = False,
) -> None:
    """Tell a run's whole story: why it waits, who claimed it, its processes, its log's way, why it ended.

    From the backend, and on the host where it ran from its directory too.
    """
    story = _story(run, api, state_dir)
    if as_json:
        print_json(story)
    else:
        _print(story)


def _story(text: str, api: str | None, state_dir: str | None) -> dict[str, Any]:
    from flowherd.cli.explain.explanation import leftovers, shipping, timeline
    from flowherd.cli.explain.waiting_reasons import standing, waiting_words
    from flowherd.config import load_settings

    found: RunView | None = None
    states: list[StateView] = []
    notices: list[NoticeView] = []
    agents: list[AgentView] = []
    tasks: list[WaitingTaskView] = []
    trouble: BackendUnavailable | CommandError | None = None
    try:
        found, states, notices, agents, tasks = _at_backend(text, api)
    except (BackendUnavailable, CommandError) as error:
        if isinstance(error, CommandError) and error.exit_code not in _TRY_DIRECTORY:
            raise
        trouble = error
    loaded = load_settings()
    local = _in_directory(found.id if found else text, loaded, state_dir)
    if trouble is not None and local is None:
        raise trouble
    now = datetime.now(timezone.utc)
    agent = next((a.name for a in agents if found is not None and a.id == found.agent_id), None)
    here = _agents_here(loaded, state_dir)
    last = states[-1] if states else None
    return {
        **_identity(found, local),
        "agent": agent,
        "reason": last.reason if last else None,
        "grade": last.grade if last else None,
        "evidence": _evidence(found, notices, local),
        "waiting": [*standing(found, agents, here, now), *waiting_words(tasks, now)] if found else [],
        "timeline": [asdict(happening) for happening in timeline(found, states, notices, local, agent)],
        "log": shipping(local),
        "journal_bytes": local.journal_bytes if local else None,
        "forwarded_bytes": local.forwarded_bytes if local else None,
        "leftovers": leftovers(local),
        "directory": local.path if local else None,
        "runner_alive": local.runner_alive if local else None,
        "damage": local.damage if local else [],
        "backend_error": str(trouble) if trouble else None,
    }


def _at_backend(
    text: str, api: str | None
) -> tuple[RunView, list[StateView], list[NoticeView], list[AgentView], list[WaitingTaskView]]:
    from flowherd.cli.runs.lookup import find_run

    client, _ = open_client(api)
    found = find_run(client, text)
    history = client.history(found.id)
    tasks = history.waiting_tasks() if found.state == RunState.RUNNING else []
    return found, history.states(), history.notices(), client.agents(), tasks


def _in_directory(text: str, loaded: LoadedSettings, state_dir: str | None) -> LocalFacts | None:
    from flowherd.cli.explain.explanation import local_facts
    from flowherd.cli.runs.lookup import find_local_run
    from flowherd.host.store.run_directory import RunDirectory

    local = find_local_run(text, loaded, state_dir)
    return local_facts(RunDirectory(local.directory, local.id)) if local is not None else None


def _agents_here(loaded: LoadedSettings, state_dir: str | None) -> dict[str, dict[str, Any]]:
    """What the agents of this host say of themselves, by name."""
    from flowherd.agent.control_path import SOCKET_FILE
    from flowherd.cli.agent.agent_client import AgentClient

    places = {path.parent for path in loaded.paths.agents_dir.glob(f"*/{SOCKET_FILE}")} | {loaded.paths.state_dir}
    if state_dir is not None:
        places.add(Path(state_dir).expanduser().absolute())
    said = (AgentClient.in_directory(place, place.name).look() for place in places)
    return {str(facts["agent"]): facts for facts in said if facts is not None}


def _evidence(found: RunView | None, notices: list[NoticeView], local: LocalFacts | None) -> str | None:
    """What the end's cause rests on: the runner's words, or once its directory is gone what the log kept of them."""
    if local is not None and local.exit:
        return str(local.exit.get("evidence"))
    if found is None or not found.finished:
        return None
    told = next((x.message for x in reversed(notices) if x.message.startswith(f"{found.state}: ")), None)
    # Of a run with an engine of its own flowherd tells what became of the process, and not of the flow.
    return told or next((x.message for x in reversed(notices) if x.message.startswith("The ")), None)


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


def _print(story: dict[str, Any]) -> None:
    from flowherd.cli.explain.explanation import Happening, stamp

    state = story["state"] or "not known here"
    say(f"{story['name']} ({story['id']}), a run of {story['flow']}: {state}")
    if story["backend_error"]:
        note(f"from {story['directory']} alone, because {story['backend_error']}")
    for words in story["waiting"]:
        say(words)
    now = datetime.now(timezone.utc)
    happenings: list[Happening] = [Happening(**item) for item in story["timeline"]]
    print_table(
        ("TIME", "WHAT", "DETAIL"),
        [(stamp(happening, now), happening.what, happening.detail) for happening in happenings],
    )
    if story["log"]:
        say("log: " + "; ".join(story["log"]) + ".")
    if story["leftovers"]:
        say("left running and ended: " + ", ".join(story["leftovers"]) + ".")
    for words in story["damage"]:
        say(f"damaged: {words}")
