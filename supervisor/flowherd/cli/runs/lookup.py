"""Finding the flow or the run that a person means, at the backend or on this host."""

from __future__ import annotations

import uuid
from difflib import get_close_matches
from pathlib import Path

from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError
from flowherd.cli.runs.local_runs import LocalRun, find_local_runs
from flowherd.client.user import RegisteredFlow, RunView, UserClient
from flowherd.config import LoadedSettings


def find_flow(client: UserClient, name: str, project: str | None) -> RegisteredFlow:
    """The newest version of the flow of this name. Raises CommandError when there is none, or more than one."""
    found = client.flows(name, project)
    if not found:
        close = get_close_matches(name, {flow.name for flow in client.flows(project=project)}, n=1)
        hint = f"did you mean {close[0]}?" if close else "register it with `flowherd register`"
        raise CommandError(f"there is no flow {name!r} at {client.address}; {hint}", exit_codes.NOT_FOUND)
    projects = sorted({flow.project for flow in found})
    if len(projects) > 1:
        raise CommandError(f"{name!r} is in {', '.join(projects)}; say which with --project", exit_codes.USAGE)
    return max(found, key=lambda flow: flow.version)


def find_run(client: UserClient, text: str) -> RunView:
    """The run that `text` means. Raises CommandError when it is none, or may be several."""
    try:
        exact = client.run(str(uuid.UUID(text)))
    except ValueError:
        exact = None
    found = [exact] if exact else client.find_runs(text)
    if not found:
        raise CommandError(
            f"there is no run {text!r} at {client.address}; see `flowherd ps --all`", exit_codes.NOT_FOUND
        )
    if len(found) > 1:
        ids = ", ".join(run.id for run in found)
        raise CommandError(f"{text!r} may be any of {ids}; say which", exit_codes.USAGE)
    return found[0]


def find_local_run(text: str, loaded: LoadedSettings, state_dir: str | None) -> LocalRun | None:
    """The run directory that `text` means, on this host; None when there is none. Raises CommandError for several."""
    directory = Path(state_dir).expanduser().absolute() if state_dir is not None else None
    found = find_local_runs(text, loaded.paths.agents_dir, directory)
    if not found and directory is None:  # one that the settings have moved out of the home
        found = find_local_runs(text, loaded.paths.agents_dir, loaded.paths.state_dir)
    if len(found) > 1:
        ids = ", ".join(run.id for run in found)
        raise CommandError(f"{text!r} may be any of {ids}; say which", exit_codes.USAGE)
    return found[0] if found else None
