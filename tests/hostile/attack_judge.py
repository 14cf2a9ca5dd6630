"""Decides whether a flow's attack has succeeded: by what has changed outside, or by what it has come back with."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.hostile.attack_scene import Scene

RUNNER_CODE = Path(__file__).resolve().parents[2] / "runners" / "flowherd_runner"
_FACTS_THAT_STAY = ("niceness", "io", "processors", "core", "oom_score_adj")
#: Attacks of which only the answer of the kernel, or of the one attacked, shows that they succeeded.
_BY_CLAIM = frozenset(
    {
        "control-socket",
        "core-pattern",
        "descriptors-of-flowherd",
        "hypervisor-socket",
        "kernel-log",
        "kernel-memory",
        "kernel-trigger",
        "lane-socket",
        "limits-of-flowherd",
        "load-module",
        "memory-of-first-process",
        "mode-of-input",
        "program-in-kernel",
        "raw-disk",
        "ring-for-sockets",
        "set-host-name",
        "signal-flowherd",
        "signal-other-run",
        "trace-flowherd",
        "watch-whole-host",
    }
)


@dataclass(frozen=True)
class Verdict:
    """What came of one attack."""

    succeeded: bool
    #: What the attack itself said, for people.
    detail: str


def traces_of(scene: Scene, run_id: str, before: Mapping[str, Any]) -> dict[str, bool]:
    """Return which attacks have left traces outside; those that are not named are judged by their evidence."""
    home, after = scene.command.home, scene.bystander.look()
    own = scene.state_dir / "runs" / run_id
    changed = {name: before[name] != after[name] for name in _FACTS_THAT_STAY}
    return {
        "plant-in-own-run": (own / "planted").exists(),
        "rename-in-home": (home / "renamed").exists(),
        "change-mode": (home / "to-change").stat().st_mode & 0o777 == 0o640,
        "change-times": (home / "to-date").stat().st_mtime == 1,
        "write-in-own-home": run_id in _text(Path(scene.places["user_home"]) / ".profile"),
        "write-elsewhere": scene.stage.exists(f"{scene.places['elsewhere']}/{run_id}"),
        "write-in-later-mount": scene.stage.exists(f"{scene.stage.later_mount}/{run_id}"),
        "write-code-of-runners": bool(list(RUNNER_CODE.glob(f"planted_{run_id.replace('-', '_')}"))),
        "signal-process": after["signals"].count("SIGUSR1") > before["signals"].count("SIGUSR1"),
        "signal-by-descriptor": after["signals"].count("SIGUSR2") > before["signals"].count("SIGUSR2"),
        "signal-all": after["signals"].count("SIGURG") > before["signals"].count("SIGURG"),
        "write-memory": after["memory"] == run_id,
        "change-niceness": changed["niceness"],
        "change-niceness-of-user": changed["io"],
        "change-affinity": changed["processors"],
        "change-limits": changed["core"],
        "oom-score": changed["oom_score_adj"],
        "use-cgroup": bool(cgroups(f"attack-{run_id}")),
        "mount-cgroups": bool(cgroups(f"mounted-{run_id}")),
        "write-to-terminal": run_id in after["terminal"],
        "datagram": run_id in after["datagrams"],
        "forge-what-is-in-force": '"forged"' in _text(own / "started"),
    }


def judge(
    scene: Scene, name: str, found: Mapping[str, str | None], targets: Mapping[str, Any], traces: Mapping[str, bool]
) -> Verdict:
    """Return what came of an attack that has returned `found`."""
    evidence, why = found["evidence"], found["why"]
    detail = why or str(evidence)[:200]
    if name in traces:
        return Verdict(traces[name], detail)
    if evidence is None:
        return Verdict(False, detail)
    wanted = _proof(scene, name, targets)
    return Verdict(re.search(wanted, evidence, re.DOTALL) is not None, detail)


def _proof(scene: Scene, name: str, targets: Mapping[str, Any]) -> str:
    """Return the expression that the evidence of a success matches."""
    own = Path(targets["own_dir"])
    special = {
        "read-token": re.escape(scene.token),
        "token-in-own-memory": re.escape(scene.token),
        "list-home": "to-change",
        "stat-state": str(Path(targets["spec"]).stat().st_ino),
        "open-own-journal": str((own / "journal").stat().st_ino) if own.exists() else ".",
        "server-with-found-token": "neighbour",
        "server-without-token": "neighbour",
        "read-environment-of-flowherd": "FLOWHERD_HOME",
        "set-user-id-program": "only root knows",
    }
    return special.get(name, "." if name in _BY_CLAIM else re.escape(scene.secret))


def _cgroup_mount() -> Path:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return next(Path(line.split()[4]) for line in lines if " - cgroup2 " in line)


def cgroup_of(pid: int) -> str:
    """Return the directory of a process's cgroup (v2)."""
    own = next(line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::"))
    return str(_cgroup_mount() / own[3:].lstrip("/"))


def cgroups(name: str) -> list[Path]:
    """Return the cgroups of that name at the top, and beside this process."""
    return [path for path in {_cgroup_mount() / name, Path(cgroup_of(os.getpid())) / name} if path.is_dir()]


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
