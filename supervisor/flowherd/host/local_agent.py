"""The published LocalAgent class: the agent that runs its flow runs as isolated processes of this host."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping

from flowherd.agent.agent import Agent
from flowherd.backends.protocol import Backend
from flowherd.config import LoadedSettings
from flowherd.flow_run import as_flow_run
from flowherd.host.host import Host
from flowherd.host.run_surroundings import HostOptions
from flowherd.values import FlowRun


class LocalAgent(Agent):
    """Deploys flow runs as isolated processes of this host.

    Beside the arguments of `Agent`:

    import_paths    directories that every flow run can import from
    show_flow_logs  mirror the runs' output on standard output
    hostname_label  add this host's name to the labels
    limit           flow runs at the same time; None is no limit
    """

    def __init__(
        self,
        name: str | None = None,
        labels: Iterable[str] | None = None,
        env_vars: Mapping[str, str] | None = None,
        import_paths: Iterable[str] | None = None,
        show_flow_logs: bool | None = None,
        hostname_label: bool | None = None,
        max_polls: int | None = None,
        agent_address: str | None = None,
        no_cloud_logs: bool = False,
        *,
        limit: int | None = None,
        settings: LoadedSettings | None = None,
        backend: Backend | None = None,
    ) -> None:
        super().__init__(
            name=name,
            labels=labels,
            env_vars=env_vars,
            max_polls=max_polls,
            agent_address=agent_address,
            no_cloud_logs=no_cloud_logs,
            settings=settings,
            backend=backend,
        )
        own = self.loaded.settings.agent
        self.import_paths = list(import_paths or own.import_paths)
        self.show_flow_logs = own.show_flow_logs if show_flow_logs is None else show_flow_logs
        self.limit = limit or own.limit
        host = _host_label()
        if (own.hostname_label if hostname_label is None else hostname_label) and host not in self.labels:
            self.labels.append(host)
        self.control.usual_stop = own.on_stop or "detach"
        options = HostOptions(
            labels=self.labels,
            env_vars=self.env_vars,
            import_paths=self.import_paths,
            limit=self.limit,
            send_logs=self.log_to_cloud,
            mirror=self.show_flow_logs,
        )
        self._platform = self._host = Host(
            self.loaded, options, self._connection, self.poke, self._waker.wake, self.control.instance
        )

    def deploy_flow(self, flow_run: FlowRun) -> str:
        """Start the flow run's runner; its process is named in what this returns, as in "PID: 1234".

        Raises UnsupportedStorage, which is a ValueError, for a flow that this agent cannot run, and DeployError when
        the runner cannot be started.
        """
        return self._host.deploy(as_flow_run(flow_run))


def _host_label() -> str:
    """Return the host's name; its address if it has the name that all hosts of Docker Desktop have, as in Prefect."""
    name = socket.gethostname()
    if name != "docker-desktop":
        return name
    try:
        return socket.gethostbyname(name)
    except OSError:  # it has no address
        return name
