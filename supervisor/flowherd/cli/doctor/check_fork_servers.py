"""Checks the interpreters that runs are forked from: their preloaded modules, and how long they take to start."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from flowherd.backends.registry import engine_of
from flowherd.cli.doctor.finding import Finding, bad, ok, warn
from flowherd.config import LoadedSettings
from flowherd.engines.registry import engine_named
from flowherd.engines.run_environment import environment_for_runs
from flowherd.engines.runtimes import together
from flowherd.errors import DeployError
from flowherd.host.processes.fork_server_pool import ForkServers
from flowherd.host.processes.interpreters import ask
from flowherd.host.processes.ready_report import refusals
from flowherd.values import Runtime

_SLOW_START_S = 10.0


def check_fork_servers(loaded: LoadedSettings) -> Iterator[Finding]:
    """Start a fork server of each interpreter in the settings, with its preloaded modules."""
    spares = loaded.settings.agent.spare_runners
    own = Runtime(preload=tuple(loaded.settings.agent.preload))
    yield _fork_server("fork server", own, "agent.preload", spares)
    package = engine_named(engine_of(loaded)).package
    for section in loaded.settings.runtimes:
        name = f"runtime {section.name}"
        try:
            found = ask(section.interpreter, environment_for_runs(os.environ), package.name if package else None)
        except DeployError as error:
            yield bad(name, str(error), "correct its interpreter (runtimes, --runtime); no agent starts until then")
            continue
        serves = package is None or package.is_in(found)
        preload = together(package.preload if package is not None and serves else (), section.preload)
        yield _fork_server(name, Runtime(found.program, preload), "its preload", spares)
        if package is not None and not serves:
            line = " or ".join(sorted(package.lines))
            install = f"`{found.program} -m pip install {package.name}==...`"
            advice = f"the backend's runs need {package.title} {line}: {install}"
            yield warn(name, package.describe(found), f"{advice}, unless it is for Python flows only")


def _fork_server(name: str, runtime: Runtime, setting: str, spares: int) -> Finding:
    with tempfile.TemporaryDirectory(prefix="flowherd-doctor-") as place:
        servers = ForkServers(Path(place), environment_for_runs(os.environ))
        started_s = time.monotonic()
        try:
            facts = servers.get(runtime).wait_ready()
        except DeployError as error:
            log = "".join(path.read_text(errors="replace") for path in Path(place).glob("*.log"))
            return bad(name, f"{error}: {log.strip()[-300:]}", f"correct {setting}; see the error")
        finally:
            servers.close()
    took_s = time.monotonic() - started_s
    failed = facts.get("failed") or {}
    if failed:
        names = "; ".join(f"{name}: {error}" for name, error in failed.items())
        return bad(name, f"cannot import {names}", f"correct {setting}, or install what is missing")
    refused = refusals(facts)
    if refused:
        return warn(name, "; ".join(refused), f"remove it from {setting}, or have it open that when it is first used")
    if facts.get("threads", 1) > 1:
        detail = "its interpreter starts with threads, so every run starts an interpreter of its own"
        return warn(name, detail, "see sitecustomize.py and the .pth files of that interpreter")
    preloaded = ", ".join(runtime.preload) or "nothing preloaded"
    detail = f"Python {facts.get('python')} is ready in {took_s:.2f} s with {preloaded}; in use it keeps {spares} spare"
    slow = "preload fewer modules; the first runs after a start wait for it"
    return warn(name, detail, slow) if took_s > _SLOW_START_S else ok(name, detail)
