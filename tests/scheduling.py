"""How tests are distributed over the processes that run them: in units that share their servers, longest first.

A unit is a file, or the part of a file that belongs to one version of Prefect, because fixtures that start a server or
an agent have that scope. Units that take longest come first: one that starts last would keep everyone waiting.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

#: Units of half a minute and more, longest first, by a part of their names. Those with a Prefect 3 server are kept
#: apart: several of them at once have no processor left to answer requests in time.
LONGEST = (
    "prefect3/test_same_as_process_worker.py",
    "prefect1/test_same_as_local_agent.py",
    "faults/test_points.py",
    "prefect3/test_server_away.py",
    "acceptance/test_front_door.py",
    "prefect3/test_fleet.py",
    "acceptance/test_pages.py",
    "acceptance/test_control.py",
    "prefect3/test_weaknesses.py",
    "prefect1/test_ends.py",
    "acceptance/test_backend_away.py",
    "prefect3/test_other_minor.py",
    "acceptance/test_one_contact.py",
    "acceptance/test_real_jobs.py",
    "prefect3/test_services.py",
    "faults/test_short_run.py",
    "prefect3/test_agent_runs.py",
)
#: The other units by their directories.
DIRECTORIES = ("peers", "faults", "acceptance", "hostile", "interpreter", "processes", "components", "unit")

_VERSION = re.compile(r"[\[-](\d+\.\d+\.\d+|embedded|prefect3)[-\]]")


def unit(node_id: str) -> str:
    """Return the name of a test's unit."""
    version = _VERSION.search(node_id)
    return node_id.partition("::")[0] + (f" {version[1]}" if version else "")


def rank(node_id: str) -> tuple[int, int, str]:
    """Return a sort key: tests of a unit stay together and keep their order within it."""
    name = unit(node_id)
    long = next((place for place, part in enumerate(LONGEST) if part in name), len(LONGEST))
    directory = name.split("/")[1]
    return long, DIRECTORIES.index(directory) if directory in DIRECTORIES else 0, name


class UnitScheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Hands out one unit after the other, in the order of collection."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # not by the number of tests

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)

    def _reschedule(self, node: WorkerController) -> None:
        """Give a worker its next unit as late as its protocol allows.

        A worker starts a test only when it knows the one after it, so the next unit is due when one test is left. The
        base class gives it two tests earlier, when the last two of a unit may take minutes that another worker has.
        """
        if not self.workqueue or self._pending_of(self.assigned_work[node]) <= 1:
            super()._reschedule(node)
