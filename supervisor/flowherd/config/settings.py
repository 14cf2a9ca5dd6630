"""Every setting with its default and its bounds, as frozen values; where values come from is `sources`' business.

Section and key names are Prefect 0.13's where it had the setting, so that its configuration file is readable as it
is; flowherd's own settings are beside them under [agent], [server], [runs] and [logging].
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

OnStop = Literal["detach", "drain", "cancel"]


class _Section(BaseModel):
    # Prefect's file has many more keys than concern an agent; they are its business.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Limits(_Section):
    """What a run may use when its flow sets nothing else; None is no limit."""

    run_time_s: float | None = Field(None, gt=0, description="wall time")
    memory_bytes: int | None = Field(None, gt=0, description="memory of the run's whole process tree")
    processes: int | None = Field(None, gt=0, description="number of processes of the run's tree")
    open_files: int | None = Field(None, gt=0, description="open files of each process")
    cpu_time_s: int | None = Field(None, gt=0, description="CPU time of each process")


class CloudAgent(_Section):
    """[cloud.agent]"""

    name: str = Field("agent", min_length=1, description="the agent's name")
    labels: list[str] = Field([], description="labels of the runs that it takes")
    env_vars: dict[str, str] = Field({}, description="environment variables for every run")
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field("INFO", description="the agent's own log level")
    auth_token: str = Field("", description="the agent's API token", json_schema_extra={"secret": True})
    agent_address: str = Field("", description="where the agent serves its own HTTP API; empty is nowhere")
    no_cloud_logs: bool = Field(False, description="write no logs to the backend")


class Cloud(_Section):
    """[cloud]"""

    api: str = Field("", description="API address; empty is the embedded server")
    auth_token: str = Field("", description="API token of the client commands", json_schema_extra={"secret": True})
    request_timeout: float = Field(15.0, gt=0, description="seconds to wait for an answer of the API")
    heartbeat_interval: float = Field(30.0, gt=0, description="seconds between heartbeats for a running flow run")
    check_cancellation_interval: float = Field(
        5.0, gt=0, description="seconds between looks for cancelled runs, where the backend does not wake the agent"
    )
    logging_heartbeat: float = Field(0.5, gt=0, description="seconds between two batches of logs")
    agent: CloudAgent = CloudAgent()


class AgentSection(_Section):
    """[agent]"""

    state_dir: str = Field("", description="the agent's state directory; empty is agents/NAME under FLOWHERD_HOME")
    limit: int | None = Field(None, gt=0, description="flow runs at the same time")
    on_stop: OnStop | None = Field(
        None, description="what becomes of the runs when the agent stops; by default detach, or cancel beside an embedded server"
    )
    drain_deadline: float = Field(600.0, gt=0, description="seconds that a draining agent waits for its runs")
    grace: float = Field(10.0, ge=0, description="seconds between asking a run to end and killing it")
    import_paths: list[str] = Field([], description="import paths for every run")
    show_flow_logs: bool = Field(False, description="mirror the runs' output on the agent's own")
    hostname_label: bool = Field(True, description="label the agent with its host's name")
    preload: list[str] = Field([], description="modules that the fork server imports once for all runs")
    watch_interval: float = Field(0.5, gt=0, description="seconds between two looks at the runs' processes")


class RunsSection(_Section):
    """[runs]"""

    keep: float | None = Field(
        None, ge=0, description="seconds to keep an ended run's directory; by default 0, or 7 days under no_cloud_logs"
    )
    max_line_bytes: int = Field(131072, ge=1024, le=131072, description="bytes kept of one line of output")
    max_journal_bytes: int = Field(1 << 30, ge=65536, description="bytes kept of one run's output")
    limits: Limits = Limits()


class Server(_Section):
    """[server]: the embedded server."""

    bind: str = Field("127.0.0.1", description="address that the embedded server listens on")
    bind_port: int = Field(4200, ge=0, le=65535, description="its port; 0 picks a free one")
    data_dir: str = Field("", description="its data directory; empty is server under FLOWHERD_HOME")
    token: str = Field("", description="token that its clients must send", json_schema_extra={"secret": True})
    keep_finished: float = Field(30 * 86400.0, ge=0, description="seconds to keep finished runs and their logs; 0 keeps all")
    schedule_ahead: int = Field(10, ge=1, le=100, description="runs that a schedule creates ahead")


class Logging(_Section):
    """[logging]: the agent's own log."""

    json_lines: bool = Field(False, description="one JSON object a line instead of text")
    file: str = Field("", description="also write to this file, rotated")
    rotation: str = Field("10 MB", description="when the file is rotated")
    retention: int = Field(5, ge=1, description="rotated files that are kept")


class Settings(_Section):
    """All settings, checked."""

    #: "cloud" asks for a token of scope RUNNER at the start, as Prefect Cloud did.
    backend: Literal["server", "cloud"] = Field("server", description="dialect: Prefect Server or Prefect Cloud")
    #: Where flowherd keeps what it keeps; FLOWHERD_HOME moves it.
    home: str = Field("", description="where flowherd keeps its files")
    cloud: Cloud = Cloud()
    agent: AgentSection = AgentSection()
    runs: RunsSection = RunsSection()
    server: Server = Server()
    logging: Logging = Logging()
