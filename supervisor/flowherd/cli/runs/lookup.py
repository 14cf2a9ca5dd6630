"""Finds the run on this host that a person means; client/lookup.py finds one at the server."""

from __future__ import annotations

from pathlib import Path

from flowherd.cli.runs.local_runs import LocalRun, find_local_runs
from flowherd.client.lookup import ambiguous
from flowherd.config import LoadedSettings


def find_local_run(text: str, loaded: LoadedSettings, state_dir: str | None) -> LocalRun | None:
    """Return the run directory on this host that `text` means; None if there is none.

    Without `state_dir` all agents under the home are searched. Raises InvalidRequest if there are several.
    """
    directory = Path(state_dir).expanduser().absolute() if state_dir is not None else None
    found = find_local_runs(text, loaded.paths.agents_dir, directory)
    if not found and directory is None:  # the settings may have moved the state directory out of the home
        found = find_local_runs(text, loaded.paths.agents_dir, loaded.paths.state_dir)
    if len(found) > 1:
        raise ambiguous(text, [run.id for run in found])
    return found[0] if found else None
