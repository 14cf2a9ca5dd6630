"""The one list of metric families: names, types, labels and texts, and who has them.

Names and units follow https://prometheus.io/docs/practices/naming/. Counters begin at 0 with each start of a process,
as Prometheus expects: its rate() and increase() go on over that. Nothing here has the id of a run as a label, except
what is marked as `per_run`, which is sent only to those who ask for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum


class Kind(str, Enum):
    """Type of a family; a summary has no quantiles, only sum and count."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    SUMMARY = "summary"

    __str__ = str.__str__


class Part(str, Enum):
    """A program that has metrics."""

    AGENT = "agent"
    SERVER = "server"

    __str__ = str.__str__


AGENT, SERVER = frozenset({Part.AGENT}), frozenset({Part.SERVER})
BOTH = AGENT | SERVER

#: Upper limits of buckets, seconds: from a claim on the same host to a request over a slow network, and from a run of
#: milliseconds to one of days.
QUICK_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
LONG_S = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 86400.0)
WAIT_S = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0)


@dataclass(frozen=True)
class Family:
    """One family; a counter's name ends in _total."""

    name: str
    kind: Kind
    help: str
    at: frozenset[Part]
    labels: Sequence[str] = ()
    buckets: Sequence[float] = ()
    #: Whether it has the id of a run as a label, and is therefore sent only if asked for.
    per_run: bool = False


def _gauge(name: str, at: frozenset[Part], text: str, *labels: str, per_run: bool = False) -> Family:
    return Family(f"flowherd_{name}", Kind.GAUGE, text, at, labels, per_run=per_run)


def _counter(name: str, at: frozenset[Part], text: str, *labels: str, per_run: bool = False) -> Family:
    return Family(f"flowherd_{name}_total", Kind.COUNTER, text, at, labels, per_run=per_run)


def _histogram(name: str, at: frozenset[Part], text: str, buckets: Sequence[float]) -> Family:
    return Family(f"flowherd_{name}_seconds", Kind.HISTOGRAM, text, at, (), buckets)


FAMILIES: Sequence[Family] = (
    _gauge("build_info", BOTH, "1; the labels say which program this is.", "part", "version", "python"),
    _gauge("up", BOTH, "1 if the agent reaches its backend and polls, or if the server can write to its database."),
    # Ended runs.
    _counter("runs_ended", BOTH, "Runs that ended, once the backend knows it.", "flow", "result", "cause"),
    _gauge("flow_failing", BOTH, "1 if the last run of the flow that ended has ended badly.", "flow"),
    Family("flowherd_flow_run_seconds", Kind.SUMMARY, "Duration of runs that ended.", BOTH, ("flow",)),
    _counter("flow_cpu_seconds", BOTH, "CPU time of runs that ended.", "flow"),
    # Phases of runs.
    _histogram("waiting", BOTH, "From the time for which a run is due until it is claimed.", WAIT_S),
    _histogram("claim", AGENT, "From the request that claims a run, or several, to its answer.", QUICK_S),
    _histogram("fork", BOTH, "From the claim of a run to the start of the user's code.", QUICK_S),
    _histogram("first_line", BOTH, "From the start of the user's code to the first line of output.", QUICK_S),
    _histogram("run", BOTH, "From the start of the user's code to its end.", LONG_S),
    _histogram("report", BOTH, "From the end of a run until the backend knows it.", QUICK_S),
    # What goes on.
    _gauge("runs", BOTH, "Runs that have not ended: on the agent's host, or at the server.", "state"),
    _gauge("oldest_due_seconds", SERVER, "For how long the oldest run that is not claimed has been due; 0 if none is."),
    _gauge("late_runs", SERVER, "Runs that have been due for more than 10 seconds and are not claimed."),
    _gauge("runs_limit", AGENT, "Maximum number of runs at the same time; missing if there is none."),
    _gauge("agent_memory_bytes", AGENT, "Memory of the agent's own cgroup; missing if it has none beside the runs'."),
    _gauge("paused", AGENT, "1 if the agent claims nothing for this reason.", "reason"),
    _gauge("agents", SERVER, "Agents of the last day, by whether they hold a connection.", "state"),
    _gauge("flow_memory_bytes", AGENT, "Memory of the processes of running runs.", "flow"),
    _gauge("flow_processes", AGENT, "Processes of running runs.", "flow"),
    # Contact with the backend.
    _gauge("backend_contact_timestamp_seconds", AGENT, "When the backend last answered; 0 if it never has."),
    _counter("backend_failures", AGENT, "Requests that the backend did not answer."),
    _counter("claims", AGENT, "Claims by outcome: won, lost (to another agent), failed.", "outcome"),
    _counter("lines_in", BOTH, "Lines of output: that runs wrote, counted at their end; that the server stored."),
    _counter("lines_out", AGENT, "Log lines that the backend has taken from this agent."),
    _counter("lines_dropped", BOTH, "Lines that runs wrote beyond their cap or to a full disk, counted at their end."),
    _gauge("spool_bytes", AGENT, "Output that the backend does not have yet."),
    _gauge("spool_limit_bytes", AGENT, "Output from which on nothing is claimed; missing if there is no limit."),
    _gauge("notifications_waiting", SERVER, "Notifications that are not delivered; missing if none are.", "channel"),
    _gauge("database_bytes", SERVER, "Size of the database."),
    # Programs of supervisord, as its event listener has logged them.
    _counter("program_ends", AGENT, "Ends of supervisord's programs.", "program", "cause"),
    _gauge("program_up", AGENT, "1 while supervisord's program is running.", "program"),
    _counter("program_events_lost", AGENT, "Events of supervisord that its event listener has not seen."),
    # The host.
    _gauge("host_cpus", BOTH, "Processors of the host."),
    _gauge("host_load1", BOTH, "Load average of the host over one minute."),
    _gauge("host_memory_bytes", BOTH, "Memory of the host."),
    _gauge("host_memory_available_bytes", BOTH, "Memory that programs can still get without swapping."),
    _gauge("host_disk_bytes", BOTH, "Size of the file system that the directory is on.", "directory"),
    _gauge("host_disk_free_bytes", BOTH, "What this user can still write there.", "directory"),
    _gauge("host_pressure_ratio", BOTH, "Share of the last minute in which work waited.", "resource", "share"),
    # By run, only if asked for.
    _gauge("run_memory_bytes", AGENT, "Memory of a run's processes.", "flow_run_id", "flow", per_run=True),
    _gauge("run_processes", AGENT, "Processes of a run.", "flow_run_id", "flow", per_run=True),
    _counter("run_cpu_seconds", AGENT, "CPU time of a run's processes.", "flow_run_id", "flow", per_run=True),
)

BY_NAME: Mapping[str, Family] = {family.name: family for family in FAMILIES}

#: Families that prometheus_client makes of this process, under the names that Prometheus's own libraries have for them.
PROCESS_FAMILIES = (
    "process_virtual_memory_bytes",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_max_fds",
)


def series_names(family: Family) -> tuple[str, ...]:
    """Return the names of a family's series, as queries use them."""
    if family.kind is Kind.HISTOGRAM:
        return tuple(f"{family.name}_{end}" for end in ("bucket", "sum", "count"))
    if family.kind is Kind.SUMMARY:
        return tuple(f"{family.name}_{end}" for end in ("sum", "count"))
    return (family.name,)
