"""Checks whether each run can have a cgroup of its own, with limits and figures of its memory and of its I/O."""

from __future__ import annotations

from pathlib import Path

from flowherd.cli.doctor.finding import Finding, ok, warn
from flowherd.host.limits import mebibytes
from flowherd.host.processes.cgroup_figures import read_figures
from flowherd.host.processes.cgroups import CONTROLLERS, DelegatedPlace, delegated_place, leaf_beside_runs

#: What runs' cgroups do not have without a controller.
_WITHOUT = {"memory": "no limit and no figures of memory", "pids": "no limit of processes", "io": "no figures of I/O"}
_NEEDED = ("memory", "pids")


def check_cgroup(agent_pid: int | None, proc: Path = Path("/proc")) -> Finding:
    """Check whether each run can get a cgroup of its own, which makes its limits and its end more exact."""
    advice = (
        "run the agent as a systemd service with Delegate=yes (`flowherd install systemd`); without it, limits and "
        "ends are handled by watching the processes"
    )
    whose = "the agent" if agent_pid is not None else "this shell"
    pid = "self" if agent_pid is None else agent_pid
    place = delegated_place(pid, proc)
    if place is None:
        return warn("cgroup", f"no cgroup (v2) is delegated to {whose}", advice)
    missing = [name for name in CONTROLLERS if name not in place.controllers]
    has = ", ".join(name for name in CONTROLLERS if name not in missing)
    detail = f"{place.path} is delegated to {whose}, with {has or 'no controller'}"
    if missing:
        detail += f"; without {', '.join(missing)}: {', '.join(_WITHOUT[name] for name in missing)}"
    if any(name in missing for name in _NEEDED):
        return warn("cgroup", detail, _advice(place))
    leaf = leaf_beside_runs(pid, proc) if agent_pid is not None else None
    memory = None if leaf is None else read_figures(leaf).memory_bytes
    if memory is not None:
        detail += f"; the agent itself uses {mebibytes(memory)}"
    return ok("cgroup", detail)


def _advice(place: DelegatedPlace) -> str:
    if not place.is_free:
        return "systemd 254 or newer gives the agent a leaf of its own (DelegateSubgroup=): `flowherd install systemd`"
    return "a user's systemd passes on what Delegate= in a drop-in for user@.service names: memory, pids and io"
