"""The published LocalAgent class: the agent that runs its flow runs as isolated processes of this host."""

from __future__ import annotations

import functools
import os
import socket
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from flowherd.agent.agent import Agent
from flowherd.agent.run_configs import LocalRun, stored_run_config
from flowherd.agent.send_traces import send_traces
from flowherd.backends.protocol import Backend
from flowherd.config import LoadedSettings
from flowherd.engines.base import AgentView
from flowherd.engines.registry import engine_named
from flowherd.engines.run_environment import environment_for_runs
from flowherd.engines.variables import Variables, defect
from flowherd.errors import ConfigurationError
from flowherd.flow_run import as_flow_run
from flowherd.host.agent_ties import AgentTies
from flowherd.host.class_choices import ClassChoices, asked_for_variables, changed_run_config, is_overridden
from flowherd.host.host import Host
from flowherd.host.host_notifications import HostNotifications, notifies, notifies_of_programs
from flowherd.host.program_watch import ProgramWatch
from flowherd.host.run_process import RunProcess
from flowherd.host.run_surroundings import HostOptions
from flowherd.supervisord.local_agent_section import local_agent_section
from flowherd.values import FlowRun


class LocalAgent(Agent):
    """Deploys flow runs as isolated processes of this host.

    Beside the arguments of `Agent`:

    import_paths    directories that every flow run can import from
    show_flow_logs  mirror the runs' output on standard output
    hostname_label  add this host's name to the labels
    limit           flow runs at the same time; None is no limit

    Raises ConfigurationError for an environment variable that no process can have, for import paths that are none, and
    for traces without the extra that sends them.
    """

    def __init__(
        self,
        name: str | None = None,
        labels: Iterable[str] | None = None,
        env_vars: Variables | None = None,
        import_paths: Iterable[str] | None = None,
        show_flow_logs: bool | None = None,
        hostname_label: bool | None = None,
        max_polls: int | None = None,
        agent_address: str | None = None,
        no_cloud_logs: bool = False,
        *,
        agent_config_id: str | None = None,
        limit: int | None = None,
        settings: LoadedSettings | None = None,
        backend: Backend | None = None,
    ) -> None:
        #: The processes of this agent's runs. `heartbeat` adds those that an earlier agent started and removes those
        #: that have ended; a subclass may add processes of its own that have `poll`, `returncode` and `pid`.
        self.processes: set[Any] = set()
        super().__init__(
            name=name,
            labels=labels,
            env_vars=env_vars,
            max_polls=max_polls,
            agent_address=agent_address,
            no_cloud_logs=no_cloud_logs,
            agent_config_id=agent_config_id,
            settings=settings,
            backend=backend,
        )
        own = self.loaded.settings.agent
        self.import_paths = _checked_paths(import_paths or own.import_paths)
        _check(self.env_vars)
        self.show_flow_logs = own.show_flow_logs if show_flow_logs is None else show_flow_logs
        self.limit = limit or own.limit
        host = _host_label()
        if (own.hostname_label if hostname_label is None else hostname_label) and host not in self.labels:
            self.labels.append(host)
        self.control.usual_stop = own.on_stop or "detach"
        send_traces(self.loaded.settings.traces.endpoint, self.name, self._own_connection.measures)
        self._own_platform = self._own_host = Host(
            self.loaded,
            AgentTies(
                connection=self._own_connection,
                options=self._own_host_options,
                choices=self._own_choices,
                has_room=self._own_offered.ask,
                wake=self._own_wake_at_stop,
                instance=self.control.instance,
            ),
        )
        self._own_notifications: HostNotifications | None = None
        if notifies(self.loaded) or notifies_of_programs(self.loaded):
            figures, living_runs = self._own_host.figures, self._own_host.living_runs
            notifications = HostNotifications(self.loaded, self.name, self.labels, figures, living_runs)
            notifications.follow(self._own_connection.measures)
            self._own_notifications = notifications
        tally, settle_s = self._own_connection.measures.tally, self.loaded.settings.notify.after
        self._own_programs = ProgramWatch(self.loaded.paths.state_dir, tally, self._own_notifications, settle_s)

    def deploy_flow(self, flow_run: FlowRun) -> str:
        """Start the flow run's runner; its process is named in what this returns, as in "PID: 1234".

        Raises UnsupportedStorage, which is a ValueError, for a flow that this agent cannot run, and DeployError when
        the runner cannot be started; and what `populate_env_vars` raised for this run.
        """
        deployment = self._own_host.deploy(as_flow_run(flow_run))
        self.processes |= self._own_host.processes(flow_run.id)
        return deployment

    def heartbeat(self) -> None:
        """Keep `processes` up to date; called before every poll."""
        self.processes |= self._own_host.processes()
        for process in list(self.processes):
            if process.poll() is not None:
                self.processes.discard(process)
                if process.returncode and not isinstance(process, RunProcess):  # the end of a run is logged already
                    self.logger.info(f"Process PID {process.pid} returned non-zero exit code")
        if self._own_notifications is not None:
            self._own_notifications.tick()
        self._own_programs.tick()
        super().heartbeat()

    def populate_env_vars(self, flow_run: FlowRun, run_config: Any = None) -> dict[str, str]:
        """Return the environment variables of a run; for subclasses, which may return others.

        Without a run config it returns what the agent sets, with one the whole environment of the run. It is called
        once or more for each run, before the claim, so an override must do nothing but return variables. What it has
        changed wins over the agent's variables and the run config's; a name that it leaves out, or sets to None, is
        removed from the run. Names by which the run's engine finds its run cannot be changed.

        An override may raise: BackendUnavailable leaves the run to a later poll, any other exception fails the run with
        its text.
        """
        view = AgentView(
            flow_run=as_flow_run(flow_run),
            defaults=self._own_host.defaults(),
            log_to_cloud=self.log_to_cloud,
            chosen=None if run_config is None else run_config.env or {},
            working_dir=getattr(run_config, "working_dir", None),
            inherited=environment_for_runs(os.environ),
        )
        return engine_named(self._own_engine_name()).variables(view)

    @staticmethod
    def generate_supervisor_conf(
        token: str | None = None,
        labels: Iterable[str] | None = None,
        import_paths: Iterable[str] | None = None,
        show_flow_logs: bool = False,
        *,
        env_vars: Mapping[str, str] | None = None,
        key: str | None = None,
    ) -> str:
        """Return the section of supervisord.conf that runs `flowherd start` with these options.

        A token, or key as it is called later, is left out with a warning: a configuration is no place for secrets.

        Raises ConfigurationError for what the format cannot express.
        """
        if token or key:
            warnings.warn(
                "generate_supervisor_conf leaves the token out: put it into a file of mode 0600, and its path into the "
                "variable FLOWHERD__CLOUD__AGENT__AUTH_TOKEN_FILE of the section, as `flowherd install supervisord "
                "--token-file FILE` does",
                stacklevel=2,
            )
        return local_agent_section(labels or (), import_paths or (), show_flow_logs, env_vars or {})

    # -- inside

    def _own_wake_at_stop(self) -> None:
        """End a wait for the runs; without one it would only be another poll."""
        if self.control.shutdown_request is not None:
            self._own_waker.wake()

    def _own_engine_name(self) -> str:
        try:
            return self._own_connection.backend.engine
        except ConfigurationError:  # no backend, as for an agent that is only asked to deploy
            return "plain"

    def _own_host_options(self) -> HostOptions:
        return HostOptions(
            labels=self.labels,
            env_vars=self.env_vars,
            import_paths=self.import_paths,
            limit=self.limit,
            limits_labels=bool(self.loaded.settings.agent.label_limits),
            send_logs=self.log_to_cloud,
            mirror=self.show_flow_logs,
            api_key=lambda: self.flow_run_api_key,
        )

    def _own_choices(self, flow_run: FlowRun) -> ClassChoices:
        """Ask the methods that a subclass has overridden. Raises what they raise."""
        config, chosen = None, None
        if is_overridden(self, "_get_run_config", Agent):
            config = self._get_run_config(flow_run, LocalRun)
            chosen = changed_run_config(stored_run_config(flow_run), config)
        if not is_overridden(self, "populate_env_vars", LocalAgent):
            return ClassChoices(run_config=chosen)
        config = config if config is not None else self._get_run_config(flow_run, LocalRun)
        base = functools.partial(LocalAgent.populate_env_vars, self)
        variables = asked_for_variables(self.populate_env_vars, base, flow_run, config)
        return ClassChoices(run_config=chosen, variables=variables)


def _check(env_vars: Variables) -> None:
    found = defect(env_vars)
    if found is not None:
        raise ConfigurationError(f"env_vars of the agent: {found}")


def _checked_paths(paths: Iterable[str]) -> list[str]:
    if isinstance(paths, (str, bytes)):
        raise ConfigurationError(f"import_paths is a list of directories, not {paths!r:.80}")
    found = list(paths)
    for path in found:
        if not isinstance(path, (str, os.PathLike)) or "\0" in os.fspath(path):
            raise ConfigurationError(f"import_paths: {path!r:.80} is no directory")
    return found


def _host_label() -> str:
    """Return the host's name; its address if it has the name that all hosts of Docker Desktop have, as in Prefect."""
    name = socket.gethostname()
    if name != "docker-desktop":
        return name
    try:
        return socket.gethostbyname(name)
    except OSError:  # it has no address
        return name
