"""Which of the agent's own environment variables its runs inherit."""

from __future__ import annotations

from collections.abc import Mapping

#: How systemd talks to the agent's process (sd_notify(3), sd_listen_fds(3)).
_OF_SYSTEMD = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}
)
#: Variables below these prefixes are settings of the agent. Not all of PREFECT__, because for example
#: PREFECT__CONTEXT__SECRETS__A_TOKEN is a secret of the flows.
_OF_THE_AGENT = ("PREFECT__CLOUD__", "FLOWHERD__")
#: What is in the names of those that hold secrets.
_SECRETS = ("TOKEN", "API_KEY", "AUTH_STRING", "CUSTOM_HEADERS", "NOTIFY__CHANNELS")


def environment_for_runs(agent_environment: Mapping[str, str]) -> dict[str, str]:
    """Return the agent's environment without the agent's own tokens and what systemd gave to it."""
    return {name: value for name, value in agent_environment.items() if not _is_the_agents_own(name)}


def _is_the_agents_own(name: str) -> bool:
    return name in _OF_SYSTEMD or (name.startswith(_OF_THE_AGENT) and any(word in name for word in _SECRETS))
