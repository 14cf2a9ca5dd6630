"""Every setting with its default, its bounds and its meaning, as frozen values.

Sections and keys have Prefect 0.13's names if it had the setting, so that its configuration file can be read as it is.
flowherd's own settings are in [agent], [server], [runs], [prefect3], [logging], [[runtimes]] and [notify]
(notify_settings.py). The docstrings of the sections and the descriptions of the fields are the text of
docs/reference/settings.md.
"""

from __future__ import annotations

from typing import Any, Literal

from flowherd.config.field_types import AbsolutePath, ApiAddress, AtLeastOne, Headers, PoolName, SecretSource, Token
from flowherd.config.isolation_settings import IsolationSection
from flowherd.config.notify_settings import Notify
from flowherd.config.records import Logging, Traces
from flowherd.config.run_weights import RunWeights
from flowherd.config.runtime_option import runtime_from_text
from flowherd.config.sections import Field, Section

OnStop = Literal["detach", "drain", "cancel"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
Pages = Literal["full", "read", "off"]

#: The language, the time zone, and how the network is reached.
USER_ENV = (
    *("PATH", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR"),
    *("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)


#: Descriptions of settings that both APIs have.
_CLIENT_CERT = "File with the client certificate that is shown to the API, and its chain; empty: none."
_CLIENT_KEY = "File with the certificate's key, not encrypted; empty: it is in the file of the certificate."
_HEADERS = "HTTP headers for every request and websocket, for a gate in front of the API. They may hold keys."
_SKIP_VERIFY = "Do not verify the API's certificate: anyone between can read the token. Warned of at each start."


class Limits(Section):
    """Limits for runs whose flow sets none."""

    run_time_s: float | None = Field(default=None, gt=0, description="Wall time of a run, seconds.")
    memory_bytes: int | None = Field(default=None, gt=0, description="Memory of the run's whole process tree, bytes.")
    processes: int | None = Field(default=None, gt=0, description="Number of processes in the run's process tree.")
    open_files: int | None = Field(default=None, gt=0, description="Number of open files of each process.")
    cpu_time_s: int | None = Field(default=None, gt=0, description="CPU time of each process, seconds.")


class CloudAgent(Section):
    """The agent: settings that Prefect's configuration has too."""

    name: str = Field(default="agent", min_length=1, description="Name of the agent.")
    labels: list[str] = Field(default=[], description="Labels of the agent: it claims runs whose labels it all has.")
    # People put keys here, so only the names of the variables are shown.
    env_vars: dict[str, str] = Field(
        default={}, description="Environment variables for every run.", repr=False, masked=True
    )
    level: LogLevel = Field(default="INFO", description="Level of the agent's own log.")
    auth_token: Token = Field(default="", description="API token of the agent.")
    agent_address: str = Field(
        default="",
        description="Address at which the agent serves its own HTTP API, such as http://127.0.0.1:8080; empty: none.",
    )
    no_cloud_logs: bool = Field(
        default=False,
        description="Do not send the runs' logs to the backend. Journals are kept for `flowherd logs`.",
    )


class Cloud(Section):
    """The API: settings that Prefect's configuration has too."""

    api: ApiAddress = Field(default="", description="API address; empty: the embedded server.")
    graphql: ApiAddress = Field(
        default="",
        description="URL to which operations are posted, as in Prefect 0.x; empty: that of cloud.api.",
    )
    auth_token: Token = Field(default="", description="API token of the client commands, such as `flowherd ps`.")
    request_timeout: float = Field(default=15.0, gt=0, description="How long to wait for an answer, seconds.")
    heartbeat_interval: float = Field(
        default=30.0, gt=0, description="Time between two heartbeats of a running run, seconds."
    )
    check_cancellation_interval: float = Field(
        default=5.0,
        gt=0,
        description="Time between two checks for cancelled runs, seconds, if the backend does not wake the agent.",
    )
    logging_heartbeat: float = Field(default=0.5, gt=0, description="Time between two batches of logs, seconds.")
    lost_contact_limit: float | None = Field(
        default=None,
        gt=0,
        description="If the API has not answered for this many seconds, the agent ends its runs. Not set: never.",
    )
    send_flow_run_logs: bool = Field(
        default=True,
        description="Send the runs' logs to the API. A run's own environment can say no, but not yes if this says no.",
    )
    ca_bundle: str = Field(
        default="",
        description="File or directory with the certificates of the authorities to trust; empty: those of certifi.",
    )
    client_cert: str = Field(default="", description=_CLIENT_CERT)
    client_key: str = Field(default="", description=_CLIENT_KEY)
    custom_headers: Headers = Field(default={}, description=_HEADERS)
    tls_insecure_skip_verify: bool = Field(default=False, description=_SKIP_VERIFY)
    agent: CloudAgent = CloudAgent()


class AgentSection(Section):
    """The agent: settings of flowherd."""

    state_dir: str = Field(
        default="",
        description="State directory, which holds the directories of the runs; each agent needs its own. "
        "Empty: agents/NAME in the home.",
    )
    limit: int | None = Field(
        default=None, gt=0, description="Maximum number of runs at the same time. Not set: no limit."
    )
    label_limits: dict[str, AtLeastOne] = Field(
        default={}, description="Maximum number of runs with a label at the same time, by label: {db = 2}."
    )
    on_stop: OnStop | None = Field(
        default=None,
        description="What happens to the runs when the agent stops: detach leaves them to the next agent, drain waits "
        "for them, cancel ends them. Not set: detach, or cancel beside an embedded server of the agent's own.",
    )
    drain_deadline: float = Field(
        default=600.0, gt=0, description="How long a draining agent waits for its runs, seconds."
    )
    grace: float = Field(default=10.0, ge=0, description="Time between asking a run to end and killing it, seconds.")
    import_paths: list[str] = Field(default=[], description="Import paths for every run.")
    show_flow_logs: bool = Field(default=False, description="Print the output of the runs on the agent's own output.")
    hostname_label: bool = Field(default=True, description="Give the agent a label with the name of its host.")
    preload: list[str] = Field(default=[], description="Modules that the fork server imports once, for all runs.")
    spare_runners: int = Field(default=1, ge=0, le=16, description="Runners kept ready for each interpreter in use.")
    remote: bool = Field(
        default=True, description="Pause, resume, drain and restart when asked to at flowherd's own server."
    )
    api_token: Token = Field(default="", description="Token that callers of the agent's own HTTP API must send.")
    cgroup: Literal["auto", "off"] = Field(
        default="auto",
        description="auto: each run has a cgroup of its own if one is delegated to the agent. off: none.",
    )
    keep_ends: float = Field(
        default=86400.0, ge=0, description="How long ended runs are remembered for a restored server, seconds; 0: not."
    )
    watch_interval: float = Field(
        default=0.5, gt=0, description="Time between two looks at the runs' processes, seconds."
    )
    backend: str = Field(
        default="",
        description="Name of the backend that runs are taken from. Empty: prefect3 if prefect3.pool is set, else "
        "graphql.",
    )


class RunsSection(RunWeights):
    """All runs."""

    keep: float | None = Field(
        default=None,
        ge=0,
        description="How long to keep the directory of an ended run, seconds. Not set: 0, and 7 days if its log is not "
        "sent.",
    )
    max_line_bytes: int = Field(
        default=131072, ge=1024, le=131072, description="Maximum length of a line of output, bytes; the rest is cut."
    )
    max_journal_bytes: int = Field(
        default=1 << 30, ge=65536, description="Maximum size of one run's output, bytes; the rest is dropped."
    )
    max_spool_bytes: int | None = Field(
        default=10 << 30,
        ge=0,
        description="If more than this many bytes of output wait for the API, no more runs are claimed.",
    )
    user_env: list[str] = Field(
        default=list(USER_ENV),
        description="Variables of the agent's own environment that runs as another user (--user) inherit, beside what "
        "a login gives and what the flow and the agent set for runs; * and ? stand for any characters. URLs with "
        "a password in them are left out.",
    )
    users_work_dir: AbsolutePath = Field(
        default="/var/lib/flowherd/work",
        description="Directory for the working directories of runs as another user, who may not enter the state "
        "directory; empty: in the state directory nevertheless.",
    )
    mask: list[str] = Field(
        default=[],
        description="Names of variables and parameters whose values are masked in the runs' output whatever they are; "
        "* and ? stand for any text and any character. Stronger than unmask.",
    )
    unmask: list[str] = Field(
        default=[], description="Names of variables and parameters that are never masked, although they sound secret."
    )
    secrets: dict[str, SecretSource] = Field(
        default={},
        description="Secret variables for every run, read when the run starts: NAME = file:PATH or env:VARIABLE, a "
        "variable of the agent's environment.",
        # Somebody may put the secret itself here; it is refused, and not shown.
        repr=False,
        masked=True,
    )
    env_files: list[str] = Field(
        default=[], description="Files of NAME=VALUE lines with variables for every run, read when the run starts."
    )
    limits: Limits = Limits()
    isolation: IsolationSection = IsolationSection()


class Server(Section):
    """The embedded server."""

    bind: str = Field(
        default="127.0.0.1", description="Address to listen on. Any but a loopback address needs server.token."
    )
    bind_port: int = Field(default=4200, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    data_dir: str = Field(default="", description="Directory of the database; empty: server in the home.")
    token: Token = Field(
        default="",
        description="Token that clients of the server must send; empty: that of `flowherd server --new-token`, if any.",
    )
    pages: Pages = Field(default="full", description="Pages in a browser: with actions, to read, or none.")
    keep_finished: float = Field(
        default=30 * 86400.0, ge=0, description="How long to keep finished runs and their logs, seconds; 0: forever."
    )
    restore_grace: float = Field(
        default=15.0, ge=0, description="How long no runs are handed out after an older database was restored, seconds."
    )
    schedule_ahead: int = Field(default=10, ge=1, le=100, description="Number of runs that a schedule creates ahead.")
    heartbeat_timeout: float = Field(
        default=600.0, gt=0, description="A run without a heartbeat for this many seconds counts as dead."
    )
    agent_timeout: float = Field(
        default=0.0,
        ge=0,
        description="The same, seconds, for runs of flowherd's agents, which go on without their agent and are "
        "reported when it is back; 0: wait for the agent without limit.",
    )
    zombie_interval: float = Field(
        default=120.0,
        ge=0,
        description="Time between two checks for dead task runs and cancelled flow runs, seconds; 0: no checks.",
    )
    lazarus_interval: float = Field(
        default=600.0,
        ge=0,
        description="Time between two checks for dead flow runs, which are started again, seconds; 0: no checks.",
    )
    lazarus_attempts: int = Field(
        default=3, ge=0, description="How many times a dead flow run is started again before it fails."
    )


class RuntimeSection(Section):
    """Another interpreter for some of the Python and Prefect runs.

    A run uses the first runtime whose labels, flows and core_version all match, as far as they are set; if none
    matches, it uses the agent's own interpreter.
    """

    refuses_unknown = True

    @classmethod
    def read(cls, value: Any) -> Any:
        return runtime_from_text(value) if isinstance(value, str) else value

    name: str = Field(min_length=1, description="Name of the runtime, for messages.")
    interpreter: str = Field(min_length=1, description="A Python, or the directory of a virtual environment.")
    preload: list[str] = Field(default=[], description="Modules that it imports once, for all its runs.")
    labels: list[str] = Field(default=[], description="Matches runs that have one of these labels.")
    flows: list[str] = Field(
        default=[], description="Matches flows with one of these names; * and ? stand for any characters."
    )
    core_version: str | None = Field(
        default=None, description="Matches flows that were registered by this version of Prefect, as in 0.*."
    )


class Prefect3(Section):
    """A work pool of a Prefect 3 server, instead of an API of Prefect 0.x/1.x."""

    pool: PoolName = Field(default="", description="Process work pool that the agent serves; empty: none.")
    work_queues: list[PoolName] = Field(
        default=[], description="Queues of the pool from which the agent takes runs; empty: all."
    )
    worker_name: PoolName = Field(default="", description="Name of the agent as a worker; empty: NAME@HOST.")
    create_pool: bool = Field(default=True, description="Create the pool if it does not exist.")
    prefetch: float = Field(default=10.0, ge=0, description="How long before they are due to look for runs, seconds.")
    api: ApiAddress = Field(default="", description="Address of the API, which ends in /api; empty: cloud.api.")
    api_key: Token = Field(default="", description="API key, if the server needs one.")
    auth_string: Token = Field(default="", description="NAME:PASSWORD, if the server needs it.")
    ssl_cert_file: str = Field(
        default="",
        description="File with the certificates of the authorities to trust; empty: those of certifi.",
    )
    client_cert: str = Field(default="", description=_CLIENT_CERT)
    client_key: str = Field(default="", description=_CLIENT_KEY)
    custom_headers: Headers = Field(default={}, description=_HEADERS)
    tls_insecure_skip_verify: bool = Field(default=False, description=_SKIP_VERIFY)
    request_timeout: float | None = Field(
        default=None, gt=0, description="How long to wait for an answer, seconds. Not set: cloud.request_timeout."
    )
    logging_to_api: bool = Field(
        default=True,
        description="Send the runs' logs to the API; the environment of a run or its job variables can say otherwise.",
    )


class Settings(Section):
    """Settings at the top of a file, before its first section."""

    #: With "cloud" the agent checks at its start that its token has the scope RUNNER, as Prefect Cloud required.
    backend: Literal["server", "cloud"] = Field(
        default="server",
        description="The kind of Prefect API: server, or cloud, which requires a token of scope RUNNER.",
    )
    home: str = Field(
        default="", description="Directory in which flowherd keeps its files; empty: ~/.flowherd. Not in a file."
    )
    cloud: Cloud = Cloud()
    agent: AgentSection = AgentSection()
    runs: RunsSection = RunsSection()
    runtimes: list[RuntimeSection] = Field(
        default=[], description="Other interpreters for some Python and Prefect runs, see [[runtimes]]."
    )
    server: Server = Server()
    prefect3: Prefect3 = Prefect3()
    notify: Notify = Notify()
    logging: Logging = Logging()
    traces: Traces = Traces()

    @property
    def backend_name(self) -> str:
        """Name of the backend that runs are taken from: agent.backend, else prefect3 if a work pool is set."""
        return self.agent.backend or ("prefect3" if self.prefect3.pool else "graphql")

    @property
    def uses_work_pool(self) -> bool:
        """Whether the agent serves a work pool of a Prefect 3 server instead of an API of Prefect 0.x/1.x."""
        return self.backend_name == "prefect3"

    @property
    def sends_logs(self) -> bool:
        """Whether logs are sent to the backend, as far as that is the same for all runs."""
        return not self.cloud.agent.no_cloud_logs and (self.cloud.send_flow_run_logs or self.uses_work_pool)
