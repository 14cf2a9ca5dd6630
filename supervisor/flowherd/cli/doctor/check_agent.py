"""Checks the agent of these settings: its directory, whether it runs, what supervises it, what earlier runs left."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil

from flowherd.agent.control_path import SOCKET_FILE
from flowherd.cli.agent import lock_holder
from flowherd.cli.agent.agent_client import AgentClient
from flowherd.cli.doctor.finding import Finding, bad, ok, warn
from flowherd.cli.format_times import span
from flowherd.config import LoadedSettings
from flowherd.host.limits import mebibytes
from flowherd.host.store.local_facts import local_facts
from flowherd.host.store.remove_tree import disk_bytes, what_prevents
from flowherd.host.store.run_directory import RunDirectory
from flowherd.host.store.survivors import listed, living_survivors
from flowherd.private_directory import reason_against
from flowherd.supervisord.rpc import SupervisordError, find_access, program_state
from flowherd.values import checked_id
from flowherd_runner.contract import identity

#: An import that takes longer, seconds, is worth a warning.
_SLOW_IMPORT_S = 10.0
#: Maximum number of left processes that are named.
_MAX_NAMED = 5


def agent_pid(loaded: LoadedSettings) -> int | None:
    """Return the pid of the agent that holds the state directory, if one does."""
    return lock_holder.agent_pid(loaded.paths.state_dir)


def check_directory(loaded: LoadedSettings) -> Finding:
    """Check that the state directory can be written by this user and read by no other."""
    place = loaded.paths.state_dir
    try:
        status = place.lstat()
    except FileNotFoundError:
        parent = next(path for path in place.parents if path.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            return ok("state directory", f"{place} is not there yet; the first start makes it")
        advice = "change the owner of that directory, or use --state-dir"
        return bad("state directory", f"{place} cannot be created in {parent}", advice)
    except OSError as error:
        return bad("state directory", str(error), "run this command as the agent's user")
    reason = reason_against(status)
    if reason is not None:
        return bad("state directory", f"{place} {reason}", "the agent refuses it; correct it, or use --state-dir")
    if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        advice = "run this command as the agent's user, or chown the directory"
        return bad("state directory", f"{place} cannot be written by this user", advice)
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        advice = f"`chmod 700 {place}`: it contains parameters and logs"
        return warn("state directory", f"{place} has mode {mode:04o}: other users can read it", advice)
    return ok("state directory", f"{place}, mode {mode:04o}")


def check_agent(loaded: LoadedSettings, pid: int | None) -> Iterator[Finding]:
    """Check whether the agent runs and claims runs; `pid` is the agent's."""
    name = loaded.settings.cloud.agent.name
    if pid is None:
        yield ok("agent", f"{name!r} is not running")
        return
    facts = AgentClient.in_directory(loaded.paths.state_dir, name).look()
    missing = lock_holder.missing_files(loaded.paths.state_dir)
    if facts is None and SOCKET_FILE not in missing:
        yield warn("agent", f"{name!r} runs (pid {pid}) but does not answer", "read its log; it may still be starting")
        return
    if missing:
        removed = f"{name!r} runs (pid {pid}), but {', '.join(missing)} were removed from {loaded.paths.state_dir}"
        keep_out = "the agent makes them again at its next poll; keep cleaners of temporary files out of that directory"
        yield warn("agent's files", removed, keep_out)
    if facts is None:
        return
    detail = f"{name!r} runs (pid {pid}): {facts['status']}" + (f", {facts['reason']}" if facts["reason"] else "")
    advice = {"paused": "`flowherd resume`", "unwell": "see the other lines, and its log"}
    status = str(facts["status"])
    yield ok("agent", detail) if status == "ok" else warn("agent", detail, advice.get(status, "wait, or see its log"))
    for wait in facts.get("preloading", []):
        if wait["seconds"] > _SLOW_IMPORT_S:
            detail = f"{wait['interpreter']} has been importing {wait['module']} for {span(wait['seconds'])}"
            yield warn("preload", detail, "runs wait for it; find out what that module waits for, or do not preload it")


def check_spool(loaded: LoadedSettings) -> Finding:
    """Check how much of the runs' output has not been sent to the backend."""
    waiting = 0
    for directory in _run_directories(loaded):
        try:
            waiting += directory.unsent_bytes()
        except OSError:  # removed in the meantime, or another user's
            continue
    cap = loaded.settings.runs.max_spool_bytes
    detail = f"{mebibytes(waiting)} of output are only on this disk" + (f", of {mebibytes(cap)} allowed" if cap else "")
    if loaded.settings.cloud.agent.no_cloud_logs or cap is None or waiting <= cap:
        return ok("spool", detail)
    return warn("spool", detail, "no run is claimed until the API has taken some of it; check that the API answers")


def check_supervisor(pid: int | None, program: str, url: str | None, configuration: str | None) -> Finding:
    """Check whether supervisord or systemd starts the agent again when it dies."""
    try:
        access = find_access(url, configuration)
        found = program_state(access, program) if access is not None else None
    except SupervisordError as error:
        return warn("supervisor", str(error), "start supervisord, or correct its configuration")
    if found is not None and found.state is not None:
        detail = f"supervisord: {found.name} {found.state} {found.description}".rstrip()
        advice = f"`supervisorctl start {found.name}`"
        return ok("supervisor", detail) if found.up else warn("supervisor", detail, advice)
    unit = _unit(pid) if pid is not None else None
    if unit is not None:
        return ok("supervisor", f"systemd: the agent is {unit}")
    if pid is None:
        return ok("supervisor", "neither supervisord nor systemd runs the agent")
    advice = "`flowherd install supervisord` or `flowherd install systemd` prints a configuration"
    return warn("supervisor", "nothing starts the agent again when it dies", advice)


def check_leftovers(loaded: LoadedSettings, pid: int | None) -> Iterator[Finding]:
    """Check for processes of runs whose runner is gone, and for ended runs whose end was not reported."""
    dead, unreported = [], 0
    for directory in _run_directories(loaded):
        facts = local_facts(directory)
        if facts.runner_alive:
            continue
        dead.append(directory.flow_run_id)
        unreported += bool(facts.started)
    left = _processes_of(dead)
    advice = "the agent ends them at its next start: `flowherd start`"
    if left:
        detail = f"{len(left)} processes of runs whose runner is gone: {_listed(left)}"
        yield warn("leftovers", detail, advice)
    else:
        yield ok("leftovers", "no process of a run without its runner")
    if unreported and pid is None:
        runs = "1 run has" if unreported == 1 else f"{unreported} runs have"
        detail = f"{runs} ended, which has not been reported to the API"
        yield warn("unreported ends", detail, "start the agent again")


def check_survivors(loaded: LoadedSettings) -> Finding:
    """Check for processes that flowherd was to end and could not, until they are gone."""
    living = living_survivors(loaded.paths.state_dir)
    if not living:
        return ok("survivors", "every process that was to be ended is gone")
    pids = " ".join(str(one.pid) for one in living)
    runs = ", ".join(sorted({one.flow_run_id for one in living}))
    detail = f"{len(living)} processes of ended runs still run: {listed(living)}; runs {runs}"
    return warn("survivors", detail, f"end them as their user or as root: `kill {pids}`")


def check_remains(loaded: LoadedSettings) -> Finding:
    """Check for directories of ended runs that could not be removed."""
    remains = [one for one in _run_directories(loaded) if one.is_abandoned() and not _is_locked(one)]
    if not remains:
        return ok("remains", "every directory that was to be removed is gone")
    size = mebibytes(sum(disk_bytes(one.path) for one in remains))
    named = "; ".join(
        f"{one.path}" + (f" ({reason})" if (reason := what_prevents(one.path)) else "") for one in remains[:_MAX_NAMED]
    )
    detail = f"{len(remains)} directories of ended runs could not be removed, {size}: {named}"
    return warn("remains", detail, "remove them as root; the agent tries again every few minutes, and its log says why")


def _is_locked(directory: RunDirectory) -> bool:
    try:
        return directory.lock_is_held()
    except OSError:
        return False


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
    names = ", ".join(f"{process.info['name']} ({process.pid})" for process in processes[:_MAX_NAMED])
    return names + (", ..." if len(processes) > _MAX_NAMED else "")


def _unit(pid: int) -> str | None:
    """Return the systemd unit of a process, from its cgroup."""
    try:
        text = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return None
    services = [part for part in text.replace("\n", "/").split("/") if part.endswith(".service")]
    # A user's own manager is a service too; everything that the user starts by hand is in it.
    return services[-1] if services and not services[-1].startswith("user@") else None
