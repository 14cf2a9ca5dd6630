"""What an agent reports of itself to flowherd's own server, with requests that it makes anyway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from flowherd.story.sent_values import NUMBER, WHOLE, Kind, readable

if TYPE_CHECKING:
    from flowherd.host_figures import HostFigures


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
    #: The most output that may wait for the backend before nothing more is claimed, bytes; None for any.
    unsent_most_bytes: int | None = None
    #: How its host is, with the disk of its state directory; None if an older release reports.
    host_figures: HostFigures | None = None
    #: Whether it carries out what it is asked over the server: pause, resume, drain, restart (setting agent.remote).
    remote: bool | None = None
    #: Load average of the host over one minute, and its number of processors.
    load: float | None = None
    cpus: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the report as it is sent and stored."""
        host = self.host_figures
        return {**asdict(replace(self, host_figures=None)), "host_figures": None if host is None else host.as_json()}


#: Types of the fields' values.
_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("instance", "host", "version", "python", "hold", "hold_reason"), str),
    **dict.fromkeys(("pid", "limit", "runs", "unsent_bytes", "unsent_most_bytes", "cpus"), WHOLE),
    **dict.fromkeys(("since", "load"), NUMBER),
}


def read_agent_report(value: Any) -> AgentReport | None:
    """Return the report in a value that was sent or stored; None if it is none. What cannot be read is left out."""
    if not isinstance(value, Mapping):
        return None
    host = None
    if value.get("host_figures") is not None:
        from flowherd.host_figures import read_host_figures  # the lists of the command line need none

        host = read_host_figures(value["host_figures"])
    remote = value["remote"] if isinstance(value.get("remote"), bool) else None
    return AgentReport(**readable(value, _KINDS), host_figures=host, remote=remote)
