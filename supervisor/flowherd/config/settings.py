"""Every setting with its default and its bounds, as frozen values; where values come from is `sources`' business.

Section and key names are Prefect 0.13's where it had the setting, so that its configuration file is readable as it
is; flowherd's own settings are beside them under [agent], [server], [runs], [prefect3] and
[logging].
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from flowherd.config.runtime_option import runtime_from_text

OnStop = Literal["detach", "drain", "cancel"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


def _checked_api(address: str) -> str:
    parts = urlsplit(address)
    if address and (parts.scheme not in ("http", "https") or not parts.netloc):
        raise ValueError("an API address looks like http://HOST:PORT")
    return address


def _checked_pool(name: str) -> str:
    if any(character in "/%&<>" for character in name):
        raise ValueError("names of work pools, queues and workers have none of / % & < >")
    return name


def _checked_token(token: str) -> str:
    token = token.strip()
    if not all("!" <= character <= "~" for character in token):
        raise ValueError("a token is printable ASCII without spaces: it travels in an HTTP header")
    return token


#: A secret, or nothing; kept out of every repr.
Token = Annotated[str, AfterValidator(_checked_token), Field(repr=False, json_schema_extra={"secret": True})]
#: A name that Prefect 3 puts into paths, or nothing.
PoolName = Annotated[str, AfterValidator(_checked_pool)]
#: The address of an API, or nothing.
ApiAddress = Annotated[str, AfterValidator(_checked_api)]


class _Section(BaseModel):
    # Prefect's file has many more keys than concern an agent; they are its business.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Limits(_Section):
    """What a run may use when its flow sets nothing else; None is no limit."""

    run_time_s: float | None = Field(default=None, gt=0, description="wall time")
    memory_bytes: int | None = Field(default=None, gt=0, description="memory of the run's whole process tree")
    processes: int | None = Field(default=None, gt=0, description="number of processes of the run's tree")
    open_files: int | None = Field(default=None, gt=0, description="open files of each process")
    cpu_time_s: int | None = Field(default=None, gt=0, description="CPU time of each process")


class CloudAgent(_Section):
    """[cloud.agent]"""

    name: str = Field(default="agent", min_length=1, description="the agent's name")
    labels: list[str] = Field(default=[], description="labels of the runs that it takes")
    # Where people put keys: shown by name only.
    env_vars: dict[str, str] = Field(
        default={}, description="environment variables for every run", repr=False, json_schema_extra={"masked": True}
    )
    level: LogLevel = Field(default="INFO", description="the agent's own log level")
    auth_token: Token = Field(default="", description="the agent's API token")
    agent_address: str = Field(default="", description="where the agent serves its own HTTP API; empty is nowhere")
    no_cloud_logs: bool = Field(default=False, description="write no logs to the backend")


class Cloud(_Section):
    """[cloud]"""

    api: ApiAddress = Field(default="", description="API address; empty is the embedded server")
    auth_token: Token = Field(default="", description="API token of the client commands")
    request_timeout: float = Field(default=15.0, gt=0, description="seconds to wait for an answer of the API")
    heartbeat_interval: float = Field(default=30.0, gt=0, description="seconds between heartbeats for a running run")
    check_cancellation_interval: float = Field(
        default=5.0,
        gt=0,
        description="seconds between looks for cancelled runs, where no backend wakes the agent",
    )
    logging_heartbeat: float = Field(default=0.5, gt=0, description="seconds between two batches of logs")
    lost_contact_limit: float | None = Field(
        default=None, gt=0, description="seconds without an answer of the API after which the runs are ended"
    )
    agent: CloudAgent = CloudAgent()


class AgentSection(_Section):
    """[agent]"""

    state_dir: str = Field(default="", description="its state directory; empty is agents/NAME under the home")
    limit: int | None = Field(default=None, gt=0, description="flow runs at the same time")
    on_stop: OnStop | None = Field(
        default=None,
        description="what the agent's stop does to its runs; by default detach, or cancel beside a server of its own",
    )
    drain_deadline: float = Field(default=600.0, gt=0, description="seconds that a draining agent waits for its runs")
    grace: float = Field(default=10.0, ge=0, description="seconds between asking a run to end and killing it")
    import_paths: list[str] = Field(default=[], description="import paths for every run")
    show_flow_logs: bool = Field(default=False, description="mirror the runs' output on the agent's own")
    hostname_label: bool = Field(default=True, description="label the agent with its host's name")
    preload: list[str] = Field(default=[], description="modules that the fork server imports once for all runs")
    api_token: Token = Field(default="", description="token that callers of the agent's HTTP API must send")
    cgroup: Literal["auto", "off"] = Field(
        default="auto", description="a cgroup of its own for every run, where a delegated one is found"
    )
    watch_interval: float = Field(default=0.5, gt=0, description="seconds between two looks at the runs' processes")
    backend: str = Field(
        default="",
        description="the backend that runs are taken from; empty is prefect3 if prefect3.pool is set, else graphql",
    )


class RunsSection(_Section):
    """[runs]"""

    keep: float | None = Field(
        default=None,
        ge=0,
        description="seconds to keep an ended run's directory; by default 0, under no_cloud_logs 7 days",
    )
    max_line_bytes: int = Field(default=131072, ge=1024, le=131072, description="bytes kept of one line of output")
    max_journal_bytes: int = Field(default=1 << 30, ge=65536, description="bytes kept of one run's output")
    max_spool_bytes: int | None = Field(
        default=10 << 30,
        ge=0,
        description="bytes of output that may wait for the API before no more runs are claimed",
    )
    limits: Limits = Limits()


class Server(_Section):
    """[server]: the embedded server."""

    bind: str = Field(default="127.0.0.1", description="address that the embedded server listens on")
    bind_port: int = Field(default=4200, ge=0, le=65535, description="its port; 0 picks a free one")
    data_dir: str = Field(default="", description="its data directory; empty is server under FLOWHERD_HOME")
    token: Token = Field(default="", description="token that its clients must send")
    keep_finished: float = Field(
        default=30 * 86400.0, ge=0, description="seconds to keep finished runs and their logs; 0 keeps all"
    )
    schedule_ahead: int = Field(default=10, ge=1, le=100, description="runs that a schedule creates ahead")
    heartbeat_timeout: float = Field(
        default=600.0, gt=0, description="seconds without a heartbeat after which a run counts as dead"
    )
    agent_timeout: float = Field(
        default=0.0,
        ge=0,
        description="the same for runs of flowherd's agents, which outlive those; 0 waits for the agent, however long",
    )
    zombie_interval: float = Field(
        default=120.0,
        ge=0,
        description="seconds between looks for dead task runs and cancelled flow runs; 0 never looks",
    )
    lazarus_interval: float = Field(
        default=600.0, ge=0, description="seconds between looks for dead flow runs to start again; 0 never looks"
    )
    lazarus_attempts: int = Field(
        default=3, ge=0, description="times that a dead flow run is started again before it has failed"
    )


class RuntimeSection(BaseModel):
    """[[runtimes]]: another interpreter, and the Python and Prefect runs that it serves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="what to call it")
    interpreter: str = Field(min_length=1, description="a Python, or the directory of a virtual environment")
    preload: list[str] = Field(default=[], description="modules that it imports once for all its runs")
    labels: list[str] = Field(default=[], description="it serves runs that carry one of them")
    flows: list[str] = Field(default=[], description="it serves flows of these names; * and ? stand for anything")
    core_version: str | None = Field(default=None, description="and flows that this Prefect registered, as in 0.*")

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        return runtime_from_text(value) if isinstance(value, str) else value


class Prefect3(_Section):
    """[prefect3]: a work pool of a Prefect 3 server, in place of Prefect 0.x/1.x's API."""

    pool: PoolName = Field(default="", description="process work pool that the agent serves; empty is none")
    work_queues: list[PoolName] = Field(default=[], description="its queues that runs are taken from; empty is all")
    worker_name: PoolName = Field(default="", description="the agent's name as a worker; empty is NAME@HOST")
    create_pool: bool = Field(default=True, description="make the pool where it is missing")
    prefetch: float = Field(default=10.0, ge=0, description="seconds before they are due that runs are looked for")
    api: ApiAddress = Field(default="", description="address of its API, which ends in /api; empty is cloud.api")
    api_key: Token = Field(default="", description="API key, where the server asks for one")
    auth_string: Token = Field(default="", description="NAME:PASSWORD, where the server asks for that")
    ssl_cert_file: str = Field(
        default="", description="certificates of who may vouch for the server; empty is the usual"
    )


class Logging(_Section):
    """[logging]: the agent's own log."""

    json_lines: bool = Field(default=False, description="one JSON object a line instead of text")
    file: str = Field(default="", description="also write to this file, rotated")
    rotation: str = Field(default="10 MB", description="when the file is rotated")
    retention: int = Field(default=5, ge=1, description="rotated files that are kept")


class Settings(_Section):
    """All settings, checked."""

    #: "cloud" asks for a token of scope RUNNER at the start, as Prefect Cloud did.
    backend: Literal["server", "cloud"] = Field(
        default="server", description="Prefect Server's ways or Prefect Cloud's"
    )
    #: Where flowherd keeps what it keeps; FLOWHERD_HOME moves it.
    home: str = Field(default="", description="where flowherd keeps its files")
    cloud: Cloud = Cloud()
    agent: AgentSection = AgentSection()
    runs: RunsSection = RunsSection()
    runtimes: list[RuntimeSection] = Field(
        default=[], description="other interpreters, and what they are for; the first that serves a run is taken"
    )
    server: Server = Server()
    prefect3: Prefect3 = Prefect3()
    logging: Logging = Logging()
