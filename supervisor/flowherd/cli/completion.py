"""What the shell completes: names at the server and on this host, ids, and words of a list.

Completes nothing if the server is slow to answer. A name with a control character is not completed: a shell would put
it on the command line as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer

from flowherd.errors import BackendUnavailable, FlowherdError
from flowherd.shown_text import one_line

if TYPE_CHECKING:
    from flowherd.client.user_client import UserClient

#: Timeout of one request; a longer wait in the shell is worse than no completion.
_TIMEOUT_S = 1.5
#: Number of newest runs whose ids are completed.
_RUNS = 50


def flows(incomplete: str) -> list[tuple[str, str]]:
    """Complete the names of registered flows; each is described by its project and version."""
    try:
        found = {flow.name: one_line(f"{flow.project}, version {flow.version}") for flow in _client().flows.find()}
    except FlowherdError:
        return []
    return [(name, found[name]) for name in _completions(found, incomplete)]


def runs(incomplete: str) -> list[tuple[str, str]]:
    """Complete the ids of the newest runs, described by name, flow and state; and their names once one is begun."""
    try:
        found = _client().runs.newest(limit=_RUNS)
    except FlowherdError:
        return []
    ids = [(run.id, one_line(f"{run.name} {run.flow} {run.state}")) for run in found if run.id.startswith(incomplete)]
    if not incomplete:
        return ids
    described = {run.name: one_line(f"{run.id} {run.flow} {run.state}") for run in reversed(found)}
    return ids + [(name, described[name]) for name in _completions(described, incomplete)]


def local_agents(incomplete: str) -> list[str]:
    """Complete the names of the agents that have a state directory in the home."""
    from flowherd.config import load_settings

    try:
        return _completions((path.name for path in load_settings().paths.agents_dir.glob("*")), incomplete)
    except (FlowherdError, OSError):
        return []


def projects(incomplete: str) -> list[str]:
    """Complete the names of the projects that have flows."""
    try:
        names = {flow.project for flow in _client().flows.find()}
    except FlowherdError:
        return []
    return _completions(names, incomplete)


def levels(incomplete: str) -> list[str]:
    """Complete the levels of log lines."""
    from flowherd.client.wanted_lines import LEVELS

    return [level for level in LEVELS if level.startswith(incomplete.upper())]


def streams(incomplete: str) -> list[str]:
    """Complete the streams of a run's log."""
    from flowherd.client.wanted_lines import STREAMS

    return _completions(STREAMS, incomplete)


def overlaps(incomplete: str) -> list[str]:
    """Complete what happens to a run that is due while another runs."""
    from flowherd.flow_rules import Overlap

    return _completions([word.value for word in Overlap], incomplete)


def catch_ups(incomplete: str) -> list[str]:
    """Complete which missed runs still run."""
    from flowherd.flow_rules import CatchUp

    return _completions([word.value for word in CatchUp], incomplete)


def io_classes(incomplete: str) -> list[str]:
    """Complete the classes of I/O of a run."""
    return _completions(["idle", "best-effort", *(f"best-effort:{level}" for level in range(8))], incomplete)


def isolation_levels(incomplete: str) -> list[str]:
    """Complete what keeps runs apart."""
    from flowherd_runner.contract.isolation import LEVELS

    return _completions(LEVELS, incomplete)


def networks(incomplete: str) -> list[str]:
    """Complete the network of runs."""
    from flowherd_runner.contract.isolation import NETWORKS

    return _completions(NETWORKS, incomplete)


def if_missing(incomplete: str) -> list[str]:
    """Complete what happens if a host cannot keep a run apart."""
    from flowherd_runner.contract.isolation import IF_MISSING

    return _completions(IF_MISSING, incomplete)


def causes(incomplete: str) -> list[str]:
    """Complete the causes after which a run is tried again, also after commas."""
    from flowherd.flow_rules import CAUSES

    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{cause}" for cause in _completions([*CAUSES, "exit:"], last)]


def timestamps(incomplete: str) -> list[str]:
    """Complete how the times of log lines can be printed."""
    from flowherd.cli.runs.log_view import TIMESTAMPS

    return _completions(TIMESTAMPS, incomplete)


def agents(incomplete: str) -> list[str]:
    """Complete the names of the agents that the server knows."""
    try:
        return _completions({agent.name for agent in _client().agents.all()}, incomplete)
    except FlowherdError:
        return []


def channels(incomplete: str) -> list[str]:
    """Complete the names of the channels of notifications."""
    try:
        return _completions((channel.name for channel in _client().notifications.channels()), incomplete)
    except FlowherdError:
        return []


def states(incomplete: str) -> list[str]:
    """Complete the states of runs, and the words for several states."""
    from flowherd.states import RunState

    words = ["running", "waiting", "ended", "bad", *(state.value for state in RunState)]
    return [word for word in words if word.startswith(incomplete)]


def timezones(incomplete: str) -> list[str]:
    """Complete the IANA names of time zones."""
    from zoneinfo import available_timezones

    return _completions(available_timezones(), incomplete)


def toml_files(incomplete: str) -> list[str]:
    """Complete the paths of TOML files, and of directories on the way."""
    from pathlib import Path

    directory, slash, _ = incomplete.rpartition("/")
    try:
        found = list(Path(directory + slash or ".").iterdir())
    except OSError:
        return []
    names = [f"{directory}{slash}{path.name}" + ("/" if path.is_dir() else "") for path in found]
    return _completions((name for name in names if name.endswith((".toml", "/"))), incomplete)


def pools(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the names of the process work pools of the Prefect 3 server."""
    return _names_at_prefect3(context, "/work_pools/filter", incomplete, of_type="process")


def queues(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the names of the queues of the pool that --pool names."""
    from urllib.parse import quote

    pool = context.params.get("pool")
    return _names_at_prefect3(context, f"/work_pools/{quote(pool, safe='')}/queues/filter", incomplete) if pool else []


def _names_at_prefect3(context: typer.Context, path: str, incomplete: str, of_type: str | None = None) -> list[str]:
    """Return the matching names of what a Prefect 3 server lists at `path`."""
    from flowherd.backends.json_values import mappings_not_null
    from flowherd.backends.prefect3.transport import Prefect3Transport
    from flowherd.config import load_settings
    from flowherd.config.route import route_of

    try:
        loaded = load_settings({"cloud.api": context.params.get("api")})
        own = loaded.settings.prefect3
        address = context.params.get("api") or own.api or loaded.settings.cloud.api
        transport = Prefect3Transport(
            address,
            api_key=own.api_key,
            auth_string=own.auth_string,
            route=route_of(loaded, address, of_pool=True),
            timeout_s=_TIMEOUT_S,
        )
        rows = mappings_not_null(transport.post(path, {}, once=True))
        names = [str(row["name"]) for row in rows if of_type is None or row.get("type") == of_type]
    except (FlowherdError, ValueError, TypeError, KeyError):  # no address, not a Prefect 3 server, or no such pool
        return []
    return _completions(names, incomplete)


def _completions(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete) and one_line(name) == name)


def _client() -> UserClient:
    from flowherd.backends.discovery import find_api
    from flowherd.client.connect import connect
    from flowherd.config import load_settings

    loaded = load_settings()
    api = find_api(loaded)
    if api is None:
        raise BackendUnavailable("no API is known")
    return connect(loaded, api, timeout_s=_TIMEOUT_S, plain=True)
