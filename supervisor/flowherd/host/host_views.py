"""What a host shows of its runs."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from flowherd.host.host_records import HostRecords
from flowherd.host.processes.run_membership import KnownProcesses, belongs_to
from flowherd.host.run_process import RunProcess
from flowherd.host.run_registry import RunRegistry
from flowherd.host.run_stats import run_stats

if TYPE_CHECKING:
    from flowherd.host.run_surroundings import RunSurroundings
    from flowherd.host.store.state_directory import StateDirectory


class HostViews:
    """The part of `Host` that only shows something."""

    _registry: RunRegistry
    _surroundings: RunSurroundings

    @functools.cached_property
    def _state(self) -> StateDirectory:
        raise NotImplementedError

    @functools.cached_property
    def records(self) -> HostRecords:
        """The runs of this host, for the agent's pages."""
        return HostRecords(self._registry, self._state)

    def labels_of_living(self) -> dict[str, tuple[str, ...]]:
        """Return the labels of the runs that have not ended, by their ids."""
        return self._registry.labels_of_living()

    def living_runs(self, looked_at: Collection[str] = ()) -> list[dict[str, Any]]:
        """Return one object for each run that has not ended, with its figures."""
        return [run_stats(run, with_tree=run.id in looked_at) for run in self._registry.living()]

    def processes(self, flow_run_id: str | None = None) -> set[RunProcess]:
        """Return the processes of the runs, or of one run, that have not ended, whichever agent started them."""
        runs = self._registry if flow_run_id is None else filter(None, [self._registry.get(flow_run_id)])
        return {RunProcess(run) for run in runs if run.runner is not None and not run.ended}

    def belongs_to(self, pid: int) -> str | None:
        """Return which run a process belongs to, as in "flow run ID"; None if to none, as far as can be seen."""
        runs = list(self._registry)
        known = KnownProcesses(
            runners={run.runner.pid: run.id for run in runs if run.runner is not None},
            cgroups={run.cgroup.name: run.id for run in runs if run.cgroup is not None},
            fork_servers=self._surroundings.fork_server_pids(),
        )
        return belongs_to(pid, known)
