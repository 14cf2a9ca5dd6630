"""Tries in a child what keeps runs apart, before there is a run: what this host gives is never judged by its version.

The child side carries out the whole recipe for each level (`boot.py isolation`), as this user and in the agent's own
interpreter, and answers in JSON: by level and by network either {"in_force": {...}} or {"why_not": "a sentence"}.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loguru import logger

from flowherd.engines.run_environment import environment_for_runs
from flowherd.errors import ConfigurationError
from flowherd.host.processes.interpreters import output_of
from flowherd.isolation.advice import advice
from flowherd_runner import BOOT_FILE
from flowherd_runner.contract.isolation import LEVELS, NETWORKS, NONE, PRIVATE, InForce, Isolation, in_force_of

#: Beginning of the name of the directory for it.
_PREFIX = "trial-"


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What came of one level with one network."""

    asked: str
    network: str
    #: What was in force; None if nothing was.
    in_force: InForce | None = None
    why_not: str = ""

    @property
    def lacks(self) -> str:
        """Why less was in force than was asked for; empty if it was not."""
        found = self.in_force
        if found is None:
            return self.why_not or "the trial did not say"
        if (found.level, found.network) == (self.asked, self.network):
            return ""
        return "; ".join(f"{one.what} ({one.why})" for one in found.missing) or f"{found.level} is in force"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What this host gives to this user, by level and network."""

    tried: Mapping[tuple[str, str], Tried] = field(default_factory=dict)

    def of(self, level: str, network: str) -> Tried:
        """Return what came of one level with one network."""
        return self.tried.get((level, network)) or Tried(asked=level, network=network)


def try_isolation(place: Path) -> Trial:
    """Carry out the trial in the state directory `place`, or where it will be; it takes some tenths of a second."""
    existing = next((path for path in (place, *place.parents) if path.is_dir()), None)
    writable = existing is not None and os.access(existing, os.W_OK)
    try:
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=existing if writable else None) as directory:
            argv = [sys.executable, BOOT_FILE, "isolation", "--directory", directory, "--fd", "1"]
            answer = json.loads(output_of(argv, environment_for_runs(os.environ)))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return _failed(f"the trial failed: {_words(error)}")
    found = answer if isinstance(answer, dict) else {}
    return Trial(tried={(level, network): _read(found, level, network) for level, network in _combinations()})


def check_isolation(floor: Isolation, place: Path) -> None:
    """Try what an agent with this floor promises for each of its runs, if that is anything, and log what was found.

    Raises ConfigurationError, which says how to get it, if something is missing and the runs may not have less.
    """
    network = floor.network
    level = PRIVATE if floor.level == NONE and network == "none" else floor.level
    if level == NONE:
        return
    tried = try_isolation(place).of(level, network)
    name = f"{level}, network {network}"
    if not tried.lacks:
        logger.info("Runs are kept apart: {}; tried, and in force", name)
        return
    how = advice(tried.lacks, is_root=os.geteuid() == 0)
    if floor.if_missing == "weaker":
        text = "Runs are kept apart less than runs.isolation asks for ({}): {}. {}"
        logger.warning(text, name, tried.lacks, how)
        return
    raise ConfigurationError(
        f"runs.isolation ({name}): this host does not give it to this user: {tried.lacks}. {how} "
        'Or set runs.isolation.if_missing = "weaker", and runs start with what there is.'
    )


def _combinations() -> list[tuple[str, str]]:
    return [(level, network) for level in LEVELS if level != NONE for network in NETWORKS]


def _read(answer: Mapping[str, Any], level: str, network: str) -> Tried:
    by_network = answer.get(level)
    found = by_network.get(network) if isinstance(by_network, Mapping) else None
    if not isinstance(found, Mapping):
        return Tried(asked=level, network=network)
    why = str(found.get("why_not") or "")
    in_force = in_force_of(found["in_force"]) if found.get("in_force") else None
    return Tried(asked=level, network=network, in_force=in_force, why_not=why)


def _failed(why: str) -> Trial:
    return Trial(tried={key: Tried(asked=key[0], network=key[1], why_not=why) for key in _combinations()})


def _words(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = error.stderr.decode("utf-8", "replace").strip().splitlines() or ["it printed no error"]
        return f"exit code {error.returncode}: {lines[-1]:.300}"
    return f"{error!r:.300}"
