"""Checks which levels of isolation this host gives to runs, by trying them, and says how to get what is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from flowherd.cli.doctor.finding import Finding, bad, ok, warn
from flowherd_runner.contract.isolation import LEVELS, NETWORKS, NONE, PRIVATE

if TYPE_CHECKING:
    from flowherd.config import LoadedSettings
    from flowherd.host.isolation_trial import Trial


def check_isolation(loaded: LoadedSettings) -> Iterator[Finding]:
    """Yield one finding for each level. One that no agent of these settings asks for is no fault if it is missing."""
    from flowherd.host.isolation_trial import try_isolation

    trial = try_isolation(loaded.paths.state_dir)
    for level in LEVELS:
        if level != NONE:
            yield _finding(level, trial, loaded)


def _finding(level: str, trial: Trial, loaded: LoadedSettings) -> Finding:
    from flowherd.isolation.advice import advice

    name = f"isolation {level}"
    lacks = {network: trial.of(level, network).lacks for network in NETWORKS}
    if not any(lacks.values()):
        return ok(name, "tried with and without a network: this host gives it" + _less(level, trial))
    if not lacks["host"]:
        detail = f"this host gives it, but not without a network; missing: {lacks['none']}"
    else:
        detail = f"this host does not give it to this user; missing: {lacks['host']}{_without_level(level, trial)}"
    how = advice(next(filter(None, lacks.values())), is_root=os.geteuid() == 0)
    asked = loaded.settings.runs.isolation
    wanted = PRIVATE if asked.level == NONE and asked.network == "none" else asked.level
    if level != wanted or not lacks[asked.network]:
        return Finding(check=name, grade="ok", detail=f"{detail}; runs.isolation does not ask for it", advice=how)
    return (warn if asked.if_missing == "weaker" else bad)(name, detail, how)


def _without_level(level: str, trial: Trial) -> str:
    """What a run has that may be weaker."""
    found = trial.of(level, "host").in_force
    return f'. With if_missing = "weaker", this was tried: {"; ".join(found.proved)}' if found and found.proved else ""


def _less(level: str, trial: Trial) -> str:
    """What is not in force although the level does not promise it, as on an older kernel."""
    found = trial.of(level, "host").in_force
    missing = [f"{one.what} ({one.why})" for one in found.missing] if found is not None else []
    return f"; without {', '.join(missing)}" if missing else ""
