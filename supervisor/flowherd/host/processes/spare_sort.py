"""The spare runners of a fork server of one sort: for runs with a level of isolation, or for those without.

A flow process enters its pid namespace when it is forked, so a spare of one sort is of no use to a run of the other.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowherd.host.processes.spare_cgroups import SpareCgroups

#: How long no run of a sort must have come until its spares end, if runs of the other sort come, seconds.
_UNUSED_S = 600.0


class SpareSort:
    """What the agent knows of them. `cgroups` is where they make cgroups of their own; None for nowhere."""

    def __init__(self, cgroups: Path | None, *, apart: bool) -> None:
        self.apart = apart
        #: Whether they are kept.
        self.wanted = False
        #: When a run of this sort came last (monotonic).
        self.used_s = time.monotonic()
        #: Pids of those that wait for a run.
        self.pids: tuple[int, ...] = ()
        self.cgroups = SpareCgroups(cgroups)

    @property
    def is_unused(self) -> bool:
        """Whether they are kept although no run has come for them for long."""
        return self.wanted and time.monotonic() - self.used_s > _UNUSED_S

    def request(self, number: int) -> dict[str, Any]:
        """Return the message that asks for them, or for none if they are not wanted."""
        below = {} if self.cgroups.parent is None else {"cgroups": str(self.cgroups.parent)}
        sort = {"apart": True} if self.apart else {}
        return {"op": "spares", "number": number if self.wanted else 0, **below, **sort}

    def note(self, message: Mapping[str, Any]) -> tuple[str, ...]:
        """Take over what the fork server reports of its spares; return the cgroups that it had reported before."""
        own = message.get("apart", {}) if self.apart else message
        self.pids = tuple(map(int, own.get("pids", ())))
        return self.cgroups.note(tuple(map(str, own.get("cgroups", ()))))
