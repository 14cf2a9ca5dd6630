"""Processes that outlive their run because they cannot be ended: what is known of them, and the list on disk.

Typical are set-uid programs such as sudo and su: they run as root, and an agent that does not may not signal them
(kill(2), EPERM). The list, survivors.json in the state directory, is kept until they are gone, so that `doctor` and
`explain` can name them after the run's own directory was removed. A process is known by pid, start ticks and boot id.
Older agents do not know the file and leave it alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flowherd.host.store.records import checked_count, checked_pid, checked_text
from flowherd_runner.contract import files, identity

SURVIVORS_FILE = "survivors.json"
#: Maximum number of processes that a sentence names.
_MAX_NAMED = 5
#: Longest name of a process or user in a sentence, characters.
_MAX_NAME = 50


@dataclass(frozen=True, kw_only=True)
class Survivor:
    """One process that was looked for after its run was ended, and still lived."""

    pid: int
    #: Start time in clock ticks since boot; 0 if /proc does not show the process.
    start_ticks: int
    boot_id: str
    name: str
    #: User that it runs as; None if not known.
    user: str | None
    #: Whether it may not be signalled; otherwise SIGKILL has not ended it.
    refused: bool
    #: Id of the flow run that it belongs to.
    flow_run_id: str = ""

    @property
    def alive(self) -> bool:
        """Whether this very process still lives."""
        if self.boot_id != identity.boot_id():
            return False
        return identity.is_alive(self.pid, self.start_ticks) if self.start_ticks else identity.may_not_signal(self.pid)

    def __str__(self) -> str:
        return f"{self.name:.{_MAX_NAME}} (pid {self.pid}, user {self.user or 'unknown':.{_MAX_NAME}})"


def survivor(pid: int) -> Survivor | None:
    """Return the living process `pid` as a survivor; None if there is none."""
    status = identity.process_status(pid)
    if status is None or status[2] in "ZX":
        return None
    return Survivor(
        pid=pid,
        start_ticks=status[1],
        boot_id=identity.boot_id(),
        name=identity.name_of(pid),
        user=identity.user_of(pid),
        refused=identity.may_not_signal(pid),
    )


def recorded_survivors(record: Mapping[str, Any]) -> list[Survivor]:
    """Return the survivors that exit.json names; entries that do not follow the contract are left out."""
    return _from_json(record.get("survivors"))


def sentences(survivors: Sequence[Survivor]) -> str:
    """Return for people which processes still run, and why; empty if there are none."""
    refused = [one for one in survivors if one.refused]
    killed = [one for one in survivors if not one.refused]
    parts = []
    if refused:
        it = "it" if len(refused) == 1 else "them"
        parts.append(f"Still running, because the agent's user may not signal {it}: {listed(refused)}.")
    if killed:
        parts.append(f"Killed, but still running: {listed(killed)}.")
    return " ".join(parts)


def listed(survivors: Sequence[Survivor]) -> str:
    """Return the names of the processes, the first few of them."""
    more = f" and {len(survivors) - _MAX_NAMED} more" if len(survivors) > _MAX_NAMED else ""
    return ", ".join(map(str, survivors[:_MAX_NAMED])) + more


def living_survivors(state_dir: Path) -> list[Survivor]:
    """Return the processes of the list that still live; none if there is no list or it is damaged."""
    try:
        record = files.read_json(str(state_dir), SURVIVORS_FILE) or {}
    except (OSError, ValueError):
        return []
    return [one for one in _from_json(record.get("survivors")) if one.alive]


class SurvivorList:
    """The list of one state directory; for several threads."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        #: Those that this agent has added, in case the file is removed.
        self._added: list[Survivor] = []
        self._lock = threading.Lock()

    def add(self, survivors: Iterable[Survivor]) -> None:
        """Add these, and drop those that are gone. Raises OSError if the list cannot be written."""
        with self._lock:
            self._added += survivors
            self._write(self._living())

    def refresh(self) -> list[Survivor]:
        """Drop those that are gone, and return the others. Raises OSError if the list cannot be written."""
        with self._lock:
            living = self._living()
            if living:
                self._write(living)
            else:
                (self._state_dir / SURVIVORS_FILE).unlink(missing_ok=True)
            return living

    def _living(self) -> list[Survivor]:
        self._added = [one for one in self._added if one.alive]
        known = {(one.pid, one.start_ticks): one for one in (*living_survivors(self._state_dir), *self._added)}
        return list(known.values())

    def _write(self, survivors: Sequence[Survivor]) -> None:
        files.write_json(str(self._state_dir), SURVIVORS_FILE, {"survivors": [asdict(one) for one in survivors]})


def _from_json(items: object) -> list[Survivor]:
    found = []
    for item in items if isinstance(items, list) else []:
        try:
            found.append(_one_from_json(item))
        except (KeyError, TypeError, AttributeError):  # a damaged entry costs only itself
            continue
    return found


def _one_from_json(item: Mapping[str, Any]) -> Survivor:
    user = item.get("user")
    return Survivor(
        pid=checked_pid(item["pid"]),
        start_ticks=checked_count(item["start_ticks"]),
        boot_id=checked_text(item["boot_id"]),
        name=_sendable(checked_text(item["name"])),
        user=None if user is None else _sendable(checked_text(user)),
        refused=item.get("refused") is True,
        flow_run_id=_sendable(checked_text(item.get("flow_run_id", ""))),
    )


def _sendable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
