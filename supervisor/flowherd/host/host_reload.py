"""How a host takes up other settings while its runs go on: a run that has started keeps those of its start."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import TYPE_CHECKING

from flowherd.config import LoadedSettings
from flowherd.config.settings_changes import taking_over
from flowherd.errors import ConfigurationError
from flowherd.host.host_views import HostViews

if TYPE_CHECKING:
    from flowherd.host.agent_ties import AgentTies
    from flowherd.host.delivery.courier import Courier
    from flowherd.host.limits import SpoolLimit
    from flowherd.host.retention import Retention
    from flowherd.host.run_surroundings import RunSurroundings


class HostReload(HostViews):
    """The part of `Host` that changes settings."""

    _loaded: LoadedSettings
    _ties: AgentTies
    _surroundings: RunSurroundings
    _opened: bool

    @functools.cached_property
    def _spool(self) -> SpoolLimit:
        raise NotImplementedError

    @functools.cached_property
    def _retention(self) -> Retention:
        raise NotImplementedError

    @functools.cached_property
    def _courier(self) -> Courier:
        raise NotImplementedError

    def reload(self, loaded: LoadedSettings, changed: Collection[str]) -> dict[str, str]:
        """Use these settings for runs that start from now on.

        Refuses runtimes whose interpreter cannot serve, and isolation that this host does not give.
        """
        refused = self._refused_isolation(loaded, changed)
        loaded = taking_over(loaded, self._loaded, refused) if refused else loaded
        try:
            self._surroundings.use(loaded.settings, changed)
        except ConfigurationError as error:
            refused["runtimes"] = str(error)
            loaded = taking_over(loaded, self._loaded, refused)
            self._surroundings.use(loaded.settings, [name for name in changed if name not in refused])
        self._loaded = loaded
        runs, parts = loaded.settings.runs, self.__dict__
        # A part that is not made yet takes its settings from `_loaded`.
        if "_spool" in parts and "runs.max_spool_bytes" in changed:
            self._spool.use(runs.max_spool_bytes)
        if "_retention" in parts and "runs.keep" in changed:
            self._retention.use(runs.keep, send_logs=self._ties.options().send_logs)
        if "_courier" in parts and not {"runs.keep", "agent.show_flow_logs"}.isdisjoint(changed):
            options = self._ties.options()
            mirrors = loaded.settings.agent.show_flow_logs if "agent.show_flow_logs" in changed else options.mirror
            self._courier.use(runs.keep, send_logs=options.send_logs, mirror=mirrors)
        if self._opened and not {"runtimes", "agent.preload"}.isdisjoint({*changed} - {*refused}):
            self._surroundings.warm_again()
        return refused

    def _refused_isolation(self, loaded: LoadedSettings, changed: Collection[str]) -> dict[str, str]:
        names = [name for name in changed if name.startswith("runs.isolation.")]
        try:
            if names:
                self._surroundings.check_isolation(loaded.settings)
        except ConfigurationError as error:
            return dict.fromkeys(names, str(error))
        return {}
