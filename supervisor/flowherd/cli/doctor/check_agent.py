"""The agent of these settings: its directory, whether it runs and who looks after it, its fork server, leftovers."""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from flowherd.backends.registry import engine_of
from flowherd.cli.agent.agent_client import AgentClient
from flowherd.cli.doctor.finding import Finding, bad, ok, warn
from flowherd.cli.doctor.lock_holder import lock_holder
from flowherd.cli.explain.explanation import local_facts
from flowherd.config import LoadedSettings
from flowherd.engines.registry import engine_named
from flowherd.engines.run_environment import environment_for_runs
from flowherd.engines.runtimes import together
from flowherd.errors import DeployError
from flowherd.host.limits import mebibytes
from flowherd.host.processes.fork_server import ForkServers
from flowherd.host.processes.interpreters import ask
from flowherd.host.store.run_directory import RunDirectory
from flowherd.supervisord.rpc import SupervisordError, find_access, program_state
from flowherd.values import Runtime, checked_id
from flowherd_runner.contract import identity

_SLOW_START_S = 10.0


def agent_pid(loaded: LoadedSettings) -> int | None:
    """The process that holds the state directory."""
    return lock_holder(loaded.paths.state_dir / "agent.lock")


def check_directory(loaded: LoadedSettings) -> Finding:
    """Whether the state directory is the agent's own and can be written."""
    place = loaded.paths.state_dir
    try:
        status = place.stat()
    except FileNotFoundError:
        parent = next(path for path in place.parents if path.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            return ok("state directory", f"{place} is not there yet; the first start makes it")
        return bad("state directory", f"{place} cannot be made in {parent}", "give its owner, or use --state-dir")
    except OSError as error:
        return bad("state directory", str(error), "run this as the agent's user")
    if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        return bad("state directory", f"{place} is not ours to write", "run this as the agent's user, or chown it")
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        advice = f"`chmod 700 {place}`: parameters and logs are in it"
        return warn("state directory", f"{place} has mode {mode:04o}: others can look into it", advice)
    return ok("state directory", f"{place}, mode {mode:04o}")


def check_agent(loaded: LoadedSettings, pid: int | None) -> Iterator[Finding]:
    """Whether it runs, claims, and keeps up with its runs' output."""
    name = loaded.settings.cloud.agent.name
    if pid is None:
        yield ok("agent", f"{name!r} does not run")
        return
    facts = AgentClient.in_directory(loaded.paths.state_dir, name).look()
    if facts is None:
        yield warn("agent", f"{name!r} runs (pid {pid}) and does not answer", "look into its log; is it starting?")
        return
    words = f"{name!r} runs (pid {pid}): {facts['status']}" + (f", {facts['reason']}" if facts["reason"] else "")
    advice = {"paused": "`flowherd resume`", "unwell": "see the other lines, and its log"}
    status = str(facts["status"])
    yield ok("agent", words) if status == "ok" else warn("agent", words, advice.get(status, "wait, or see its log"))


def check_spool(loaded: LoadedSettings) -> Finding:
    """How much of the runs' output the backend has not yet."""
    waiting = 0
    for directory in _run_directories(loaded):
        try:
            waiting += directory.unsent_bytes()
        except OSError:  # removed meanwhile, or another user's
            continue
    cap = loaded.settings.runs.max_spool_bytes
    words = f"{mebibytes(waiting)} of output are on this disk alone" + (f" of {mebibytes(cap)}" if cap else "")
    if loaded.settings.cloud.agent.no_cloud_logs or cap is None or waiting <= cap:
        return ok("spool", words)
    return warn("spool", words, "nothing more is claimed until the API has taken some; is it there?")


def check_supervisor(pid: int | None) -> Finding:
    """Who starts the agent again when it dies."""
    try:
        access = find_access(None, None)
        found = program_state(access, "flowherd") if access is not None else None
    except SupervisordError as error:
        return warn("supervisor", str(error), "start supervisord, or correct its configuration")
    if found is not None and found.state is not None:
        words = f"supervisord: {found.name} {found.state} {found.description}".rstrip()
        return ok("supervisor", words) if found.up else warn("supervisor", words, f"`supervisorctl start {found.name}`")
    unit = _unit(pid) if pid is not None else None
    if unit is not None:
        return ok("supervisor", f"systemd: the agent is {unit}")
    if pid is None:
        return ok("supervisor", "neither supervisord nor systemd is asked to run the agent")
    advice = "`flowherd install supervisord` or `flowherd install systemd` prints a configuration"
    return warn("supervisor", "nobody starts the agent again when it dies", advice)


def check_fork_servers(loaded: LoadedSettings) -> Iterator[Finding]:
    """Whether each interpreter of the settings and its preloaded modules work, and how long that takes."""
    yield _fork_server("fork server", Runtime(preload=tuple(loaded.settings.agent.preload)), "agent.preload")
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
        yield _fork_server(name, Runtime(found.program, preload), "its preload")
        if package is not None and not serves:
            line = " or ".join(sorted(package.lines))
            install = f"`{found.program} -m pip install {package.name}==...`"
            advice = f"the backend's runs need {package.title} {line}: {install}"
            yield warn(name, package.describe(found), f"{advice}, unless it is for Python flows only")


def _fork_server(name: str, runtime: Runtime, setting: str) -> Finding:
    with tempfile.TemporaryDirectory(prefix="flowherd-doctor-") as place:
        servers = ForkServers(Path(place), environment_for_runs(os.environ))
        started_s = time.monotonic()
        try:
            said = servers.get(runtime).wait_ready()
        except DeployError as error:
            log = "".join(path.read_text(errors="replace") for path in Path(place).glob("*.log"))
            return bad(name, f"{error}: {log.strip()[-300:]}", f"correct {setting}; see the error")
        finally:
            servers.close()
    took = f"is ready in {time.monotonic() - started_s:.2f} s with {', '.join(runtime.preload) or 'nothing preloaded'}"
    took = f"Python {said.get('python')} {took}"
    failed = said.get("failed") or {}
    if failed:
        names = "; ".join(f"{name}: {error}" for name, error in failed.items())
        return bad(name, f"cannot import {names}", f"correct {setting}, or install what is missing")
    if said.get("threads", 1) > 1:
        words = "the preloaded modules start threads, so every run starts its own interpreter"
        return warn(name, words, f"preload other modules ({setting})")
    slow = "preload fewer modules; the first runs after a start wait for it"
    return warn(name, took, slow) if time.monotonic() - started_s > _SLOW_START_S else ok(name, took)


def check_leftovers(loaded: LoadedSettings, pid: int | None) -> Iterator[Finding]:
    """Processes of runs whose runner is gone, and runs whose end nobody has told the backend."""
    dead, untold = [], 0
    for directory in _run_directories(loaded):
        facts = local_facts(directory)
        if facts.runner_alive:
            continue
        dead.append(directory.flow_run_id)
        untold += bool(facts.started)
    left = _processes_of(dead)
    advice = "the agent ends them at its next start: `flowherd start`"
    if left:
        yield warn("leftovers", f"{len(left)} processes of runs whose runner is gone: {_listed(left)}", advice)
    else:
        yield ok("leftovers", "no process of a run without its runner")
    if untold and pid is None:
        words = "1 run has" if untold == 1 else f"{untold} runs have"
        yield warn("untold ends", f"{words} ended and nobody tells the API", "start the agent again")


def _run_directories(loaded: LoadedSettings) -> Iterator[RunDirectory]:
    for path in sorted((loaded.paths.state_dir / "runs").glob("*")):
        try:
            yield RunDirectory(path, checked_id(path.name))
        except ValueError:
            continue


def _processes_of(run_ids: list[str]) -> list[psutil.Process]:
    pids = psutil.pids() if run_ids else []
    found = {pid for run_id in run_ids for pid in identity.members_by_variable(run_id, pids)}
    return [process for process in psutil.process_iter(["name"]) if process.pid in found]


def _listed(processes: list[psutil.Process]) -> str:
    names = ", ".join(f"{process.info['name']} ({process.pid})" for process in processes[:5])
    return names + (", ..." if len(processes) > 5 else "")


def _unit(pid: int) -> str | None:
    """The systemd unit of a process, by its cgroup."""
    try:
        text = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return None
    parts: list[Any] = text.replace("\n", "/").split("/")
    services = [part for part in parts if part.endswith(".service")]
    # A user's own manager is a service too, in which everything that is started by hand stands.
    return services[-1] if services and not services[-1].startswith("user@") else None
