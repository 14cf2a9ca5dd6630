"""What all runs of this host start from: interpreters with their fork servers, and the agent's defaults for runs."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from loguru import logger

from flowherd.agent.connection import Connection
from flowherd.config import LoadedSettings
from flowherd.engines.plan import AgentDefaults
from flowherd.engines.prefect1_environment import EngineSettings
from flowherd.engines.runtime_setup import checked_rules, lines_of_engine, preload_of_engine, serves_engine, to_warm
from flowherd.engines.runtimes import RuntimeRule, newer_than
from flowherd.errors import ConfigurationError
from flowherd.host.processes.fork_server import ForkServers, environment_for_runs
from flowherd_runner.contract.spec import Limits


class RunSurroundings:
    """The runtimes of one agent and the defaults of its runs."""

    def __init__(
        self,
        loaded: LoadedSettings,
        env_vars: Mapping[str, str],
        import_paths: Sequence[str],
        labels: Sequence[str],
        connection: Connection,
    ) -> None:
        self._settings = loaded.settings
        self._state_dir = loaded.paths.state_dir
        self._env_vars = env_vars
        self._import_paths = import_paths
        self._labels = labels
        self._connection = connection
        #: The directory of runs that name none, if their engine wants the agent's own.
        self._started_in = str(Path.cwd())

    @functools.cached_property
    def _runtimes(self) -> tuple[RuntimeRule, ...]:
        sections = self._settings.runtimes
        return checked_rules(sections, environment_for_runs(os.environ), lines_of_engine(self._settings))

    def check_runtimes(self) -> None:
        """Ask each interpreter of the settings what it is. Raises ConfigurationError when one cannot serve."""
        if self._settings.prefect3.pool and not serves_engine(self._runtimes):
            logger.warning(
                "No interpreter with Prefect 3 is known here, so runs without a command of their own will crash: "
                "name one with --runtime NAME=VIRTUAL-ENVIRONMENT"
            )

    def warm(self) -> None:
        """Start the fork servers that runs can be expected to need."""
        for runtime in to_warm(self._runtimes, self._settings.agent.preload, preload_of_engine(self._settings)):
            self.fork_servers.get(runtime)

    @functools.cached_property
    def fork_servers(self) -> ForkServers:
        """The fork servers of this agent, one for each runtime."""
        try:
            variables = self._connection.engine_variables()
        except ConfigurationError:  # no backend, as for an agent that is only asked to deploy
            variables = {}
        for_all_runs = {**self._env_vars, **variables} if variables else {}
        return ForkServers(self._state_dir, environment_for_runs(os.environ), for_all_runs)

    def close(self) -> None:
        """End the fork servers; the runs that they started go on."""
        if "fork_servers" in self.__dict__:
            self.fork_servers.close()

    def warn_of_later_than(self, server_version: str) -> None:
        """Warn of each runtime whose engine is later than the server's."""
        for rule in newer_than(server_version, self._runtimes):
            logger.warning(
                "The runtime {!r} has Prefect {}, later than the server's {}: it may ask for what the server lacks",
                rule.name,
                rule.prefect_version,
                server_version,
            )

    def defaults(self) -> AgentDefaults:
        """Return what the agent gives to every run whose flow sets nothing else."""
        return AgentDefaults(
            env_vars=self._env_vars,
            import_paths=self._import_paths,
            limits=Limits(**self._settings.runs.limits.model_dump()),
            preload=self._settings.agent.preload,
            runtimes=self._runtimes,
            engine=self._engine_settings(),
            grace_s=self._settings.agent.grace,
            max_line_bytes=self._settings.runs.max_line_bytes,
            max_journal_bytes=self._settings.runs.max_journal_bytes,
        )

    def _engine_settings(self) -> EngineSettings | None:
        try:
            access = self._connection.engine_access()
        except ConfigurationError:  # no backend, as for an agent that is only asked to deploy
            access = None
        if access is None:
            return None
        return EngineSettings(
            access=access,
            backend=self._settings.backend,
            labels=self._labels,
            working_dir=self._started_in,
            python_path=os.environ.get("PYTHONPATH", ""),
            import_paths=[str(Path(path).expanduser().absolute()) for path in self._import_paths],
            env_vars=self._env_vars,
        )
