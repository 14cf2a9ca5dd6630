"""Finds the flow or the run that a person means, at the backend or on this host."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError
from flowherd.cli.runs.local_runs import LocalRun, find_local_runs
from flowherd.client.flows import RegisteredFlow
from flowherd.client.runs import RunView
from flowherd.client.user_client import UserClient
from flowherd.config import LoadedSettings


def find_flow(client: UserClient, name: str, project: str | None) -> RegisteredFlow:
    """Return the newest version of the flow with this name.

    Raises CommandError if there is none, or if several projects have one.
    """
    found = client.flows.find(name, project)
    if not found:
        close = get_close_matches(name, {flow.name for flow in client.flows.find(project=project)}, n=1)
        hint = f"did you mean {close[0]}?" if close else "register it with `flowherd register`"
        raise CommandError(f"there is no flow {name!r} at {client.address}; {hint}", exit_codes.NOT_FOUND)
    projects = sorted({flow.project for flow in found})
    if len(projects) > 1:
        raise CommandError(f"{name!r} is in {', '.join(projects)}; choose one with --project", exit_codes.USAGE)
    return max(found, key=lambda flow: flow.version)


def find_run(client: UserClient, text: str) -> RunView:
    """Return the run that `text` means: its id, the beginning of its id, or its name.

    Raises CommandError if there is none, or if there are several.
    """
    try:
        exact = client.runs.get(str(uuid.UUID(text)))
    except ValueError:
        exact = None
    found = [exact] if exact else client.runs.find(text)
    if not found:
        raise CommandError(
            f"there is no run {text!r} at {client.address}; see `flowherd ps --all`", exit_codes.NOT_FOUND
        )
    if len(found) > 1:
        raise _ambiguous(text, [run.id for run in found])
    return found[0]


def find_local_run(text: str, loaded: LoadedSettings, state_dir: str | None) -> LocalRun | None:
    """Return the run directory on this host that `text` means; None if there is none.

    Without `state_dir` all agents under the home are searched. Raises CommandError if there are several.
    """
    directory = Path(state_dir).expanduser().absolute() if state_dir is not None else None
    found = find_local_runs(text, loaded.paths.agents_dir, directory)
    if not found and directory is None:  # the settings may have moved the state directory out of the home
        found = find_local_runs(text, loaded.paths.agents_dir, loaded.paths.state_dir)
    if len(found) > 1:
        raise _ambiguous(text, [run.id for run in found])
    return found[0] if found else None


def _ambiguous(text: str, run_ids: Sequence[str]) -> CommandError:
    return CommandError(f"{text!r} may mean any of {', '.join(run_ids)}; use an id", exit_codes.USAGE)
