"""What an agent reports of itself to flowherd's own server, with requests that it makes anyway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class AgentReport:
    """One agent at one moment. What an agent of another release does not report is None or empty."""

    #: Tells this start of the agent from others.
    instance: str = ""
    #: Name of its host.
    host: str = ""
    #: Versions of flowherd and of Python.
    version: str = ""
    python: str = ""
    pid: int | None = None
    #: When it was started, seconds since the epoch.
    since: float | None = None
    #: Maximum number of runs at the same time; None for no limit.
    limit: int | None = None
    #: Number of runs that have not ended.
    runs: int | None = None
    #: Why it claims nothing: a word for programs and a sentence; empty if it claims.
    hold: str = ""
    hold_reason: str = ""
    #: Output that the backend does not have yet, bytes.
    unsent_bytes: int | None = None
    #: Load average of the host over one minute, and its number of processors.
    load: float | None = None
    cpus: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the report as it is sent and stored."""
        return asdict(self)


#: Numbers from here on, which are none of an agent, are left out; so are infinity and NaN.
_MOST = 1 << 63
#: Types of the fields' values.
_KINDS: Mapping[str, type[Any] | tuple[type[Any], ...]] = {
    **dict.fromkeys(("instance", "host", "version", "python", "hold", "hold_reason"), str),
    **dict.fromkeys(("pid", "limit", "runs", "unsent_bytes", "cpus"), int),
    **dict.fromkeys(("since", "load"), (int, float)),
}


def read_agent_report(value: Any) -> AgentReport | None:
    """Return the report in a value that was sent or stored; None if it is none. What cannot be read is left out."""
    if not isinstance(value, Mapping):
        return None
    return AgentReport(**{name: value[name] for name, kind in _KINDS.items() if _is_readable(value.get(name), kind)})


def _is_readable(value: Any, kind: type[Any] | tuple[type[Any], ...]) -> bool:
    if isinstance(value, bool) or not isinstance(value, kind):
        return False
    return isinstance(value, str) or abs(value) < _MOST
