"""What all runs of this host start from: interpreters with their fork servers, and the agent's defaults for runs."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from loguru import logger

from flowherd.agent.connection import Connection
from flowherd.config import LoadedSettings
from flowherd.config.catalogue import credentials
from flowherd.config.settings import Settings
from flowherd.engines.base import AgentDefaults
from flowherd.engines.plan import runtime_of
from flowherd.engines.registry import engine_named
from flowherd.engines.run_environment import environment_for_runs
from flowherd.engines.runtimes import (
    EnginePackage,
    RuntimeRule,
    checked_rules,
    to_warm,
    warnings_about_versions,
    warnings_at_start,
)
from flowherd.engines.start_variables import start_variables
from flowherd.engines.variables import Variables, merged, removed
from flowherd.errors import AgentStopping, ConfigurationError, DeployError
from flowherd.host.intent import RunCgroup
from flowherd.host.isolation_floor import floor_of
from flowherd.host.isolation_trial import check_isolation
from flowherd.host.processes import cgroups
from flowherd.host.processes.fork_server_pool import ForkServers
from flowherd.host.processes.interpreters import end_questions
from flowherd.values import EngineAccess
from flowherd.weights import above_agents_own
from flowherd_runner.contract.isolation import Isolation
from flowherd_runner.contract.spec import RunLimits, RunSpec
from flowherd_runner.contract.weights import Weights

_NO_VARIABLES: Variables = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class HostOptions:
    """What a `LocalAgent` was given for its runs, beside the settings."""

    labels: Sequence[str] = ()
    #: Variables of every run; None removes one that the run would inherit.
    env_vars: Variables = field(default_factory=dict)
    #: Directories that every flow run can import from.
    import_paths: Sequence[str] = ()
    #: Highest number of runs at the same time; None means no limit.
    limit: int | None = None
    #: Whether there are limits for runs with some label.
    limits_labels: bool = False
    #: Whether logs go to the backend.
    send_logs: bool = True
    #: Whether the runs' output is shown on standard output.
    mirror: bool = False
    #: Returns the token that a run's engine is given; None for the agent's own.
    api_key: Callable[[], str | None] | None = None


class RunSurroundings:
    """The runtimes of one agent and the defaults of its runs."""

    def __init__(self, loaded: LoadedSettings, options: Callable[[], HostOptions], connection: Connection) -> None:
        self._loaded = loaded
        self._settings = loaded.settings
        self._engine_variables = loaded.engine_variables
        self._options_now = options
        self._state_dir = loaded.paths.state_dir
        self._connection = connection
        #: The directory of runs that name none, if their engine wants the agent's own.
        self._started_in = str(Path.cwd())

    @property
    def _options(self) -> HostOptions:
        return self._options_now()

    @functools.cached_property
    def _package(self) -> EnginePackage | None:
        """What the runs need that the backend hands out; None if any Python will do."""
        try:
            name = self._connection.backend.engine
        except ConfigurationError:  # no backend, as for an agent that is only asked to deploy
            return None
        return engine_named(name).package

    @functools.cached_property
    def _runtimes(self) -> tuple[RuntimeRule, ...]:
        return checked_rules(self._settings.runtimes, environment_for_runs(os.environ), self._package)

    @functools.cached_property
    def floor(self) -> Isolation:
        """What keeps all runs apart at least."""
        return floor_of(self._settings, self._loaded, os.environ)

    def check_runtimes(self) -> None:
        """Start each interpreter of the settings once. Raises ConfigurationError when one cannot serve."""
        for warning in warnings_at_start(self._package, self._runtimes):
            logger.warning("{}", warning)

    def check_isolation(self, settings: Settings | None = None) -> None:
        """Try what these settings (None: the present ones) ask for to keep all runs apart, if that is anything.

        Raises ConfigurationError if this host does not give it.
        """
        floor = self.floor if settings is None else floor_of(settings, self._loaded, os.environ)
        check_isolation(floor, self._loaded.paths.state_dir)

    def use(self, settings: Settings, changed: Collection[str]) -> None:
        """Use these settings, of which `changed` differ, for runs that start from now on.

        Raises ConfigurationError when a runtime of the settings cannot serve; then nothing has changed.
        """
        if "runtimes" in changed and "_runtimes" in self.__dict__:
            self._runtimes = checked_rules(settings.runtimes, environment_for_runs(os.environ), self._package)
        self._settings = settings
        self.__dict__.pop("floor", None)

    def warm_again(self) -> None:
        """Start the fork servers that runs can need by now, and end those that none needs; their runs go on."""
        self.warm()
        self.fork_servers.keep_only(to_warm(self._runtimes, self._settings.agent.preload, self._package))

    def warm(self) -> None:
        """Start the fork servers that runs can be expected to need."""
        for runtime in to_warm(self._runtimes, self._settings.agent.preload, self._package):
            server = self.fork_servers.get(runtime)
            if runtime.interpreter == sys.executable:
                server.keep_spares(apart=self.floor.wanted)

    @functools.cached_property
    def fork_servers(self) -> ForkServers:
        """The fork servers of this agent, one for each runtime."""
        try:
            variables = self._connection.engine_variables()
        except ConfigurationError:  # no backend, as for an agent that is only asked to deploy
            variables = {}
        of_agent = self._options.env_vars
        for_all_runs = merged(self._engine_variables, of_agent, variables) if variables else {}
        at_start = dict(start_variables(merged(of_agent), {}, preloads=True))
        not_at_start = start_variables(dict.fromkeys(removed(of_agent), ""), {}, preloads=True)
        environment = {**environment_for_runs(os.environ), **at_start}
        for name, _ in not_at_start:
            environment.pop(name, None)
        secrets, spares = credentials(self._settings), self._settings.agent.spare_runners
        parent = None if self.cgroups is None else self.cgroups.parent
        return ForkServers(self._state_dir, environment, for_all_runs, secrets, spares, parent)

    @functools.cached_property
    def cgroups(self) -> cgroups.Cgroups | None:
        """The cgroups that runs can have; None if they have none."""
        return cgroups.find_and_sweep() if self._settings.agent.cgroup == "auto" else None

    def cgroup_for(self, spec: RunSpec) -> RunCgroup | None:
        """Return the cgroup for one start of a run: one that a spare runner is in already, if there is one."""
        if self.cgroups is None:
            return None
        try:
            server = self.fork_servers.get(runtime_of(spec, self.fork_servers.base_env))
        except (AgentStopping, DeployError):  # `start` tries again, and says what is wrong
            reserved = None
        else:
            spares = server.sort_of_spares(apart=spec.isolation.wanted).cgroups
            reserved = spares.reserve()
        if reserved is not None:
            return RunCgroup(reserved, functools.partial(spares.give_back, reserved))
        return RunCgroup(str(self.cgroups.path_for(spec.flow_run_id, spec.agent.attempt)))

    def fork_server_pids(self) -> list[int]:
        """Return the pids of the fork servers that there are."""
        return self.fork_servers.pids() if "fork_servers" in self.__dict__ else []

    def end_idle_fork_servers(self) -> None:
        """End fork servers that no new run will be started from."""
        if "fork_servers" in self.__dict__:
            self.fork_servers.end_idle()

    def preloading(self) -> list[dict[str, Any]]:
        """Return what the fork servers are importing now, one object for each that is not ready."""
        return self.fork_servers.preloading() if "fork_servers" in self.__dict__ else []

    def begin_closing(self) -> None:
        """End all waits for interpreters and fork servers: the agent is stopping."""
        end_questions()
        if "fork_servers" in self.__dict__:
            self.fork_servers.begin_closing()

    def close(self) -> None:
        """End the fork servers; the runs that they started go on."""
        if "fork_servers" in self.__dict__:
            self.fork_servers.close()

    def warn_of_later_than(self, server_version: str) -> None:
        """Warn of each runtime whose engine is later than the server's."""
        for warning in warnings_about_versions(self._package, server_version, self._runtimes):
            logger.warning("{}", warning)

    def defaults(self, own_variables: Variables = _NO_VARIABLES) -> AgentDefaults:
        """Return what the agent gives to every run whose flow does not choose otherwise.

        `own_variables` are those that the agent's class chooses for this run.
        """
        options = self._options
        return AgentDefaults(
            env_vars=options.env_vars,
            own_variables=own_variables,
            import_paths=options.import_paths,
            limits=RunLimits(**self._settings.runs.limits.values()),
            weights=self._weights(),
            preload=self._settings.agent.preload,
            runtimes=self._runtimes,
            user_env=self._settings.runs.user_env,
            users_work_dir=self._settings.runs.users_work_dir,
            mask=self._settings.runs.mask,
            unmask=self._settings.runs.unmask,
            secrets=self._settings.runs.secrets,
            env_files=self._settings.runs.env_files,
            grace_s=self._settings.agent.grace,
            max_line_bytes=self._settings.runs.max_line_bytes,
            max_journal_bytes=self._settings.runs.max_journal_bytes,
            access=self._engine_access(),
            api_flavour=self._settings.backend,
            labels=options.labels,
            engine_variables=self._engine_variables,
            logging_to_api=self._settings.prefect3.logging_to_api,
            started_in=self._started_in,
            python_path=os.environ.get("PYTHONPATH", ""),
            traces=bool(self._settings.traces.endpoint),
            isolation=self.floor,
        )

    def _weights(self) -> Weights:
        chosen = Weights(**{name: getattr(self._settings.runs, name) for name in Weights._fields})
        return chosen if chosen.oom_score_adj is not None else chosen._replace(oom_score_adj=above_agents_own())

    def _engine_access(self) -> EngineAccess | None:
        try:
            access = self._connection.engine_access()
        except ConfigurationError:  # no backend, as for an agent that is only asked to deploy
            return None
        if access is None or self._options.api_key is None:
            return access
        token = self._options.api_key() or ""
        return replace(access, token=token, takes_run_tokens=access.takes_run_tokens and token == access.token)
