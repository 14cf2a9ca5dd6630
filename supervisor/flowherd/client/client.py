"""flowherd.Client: flows and runs at a server, for programs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from types import TracebackType
from typing import TYPE_CHECKING, Any

from flowherd.client import lookup
from flowherd.client.ends import ends_of
from flowherd.client.flows import falsy_defaults
from flowherd.client.registration import Registration
from flowherd.errors import BackendUnavailable, ConfigurationError, InvalidRequest, NotFound, WaitTimeout
from flowherd.parameter_names import complaints

if TYPE_CHECKING:
    from flowherd.client.agents import AgentView
    from flowherd.client.flows import RegisteredFlow
    from flowherd.client.logs import LogView
    from flowherd.client.removal import Unregistered
    from flowherd.client.run_changes import RunChange, RunRepeat
    from flowherd.client.runs import RunSummary, RunView
    from flowherd.client.schedules import ScheduleView
    from flowherd.client.user_client import UserClient
    from flowherd.config import LoadedSettings

#: How long ago a start may be that does not count as late, seconds.
NOT_LATE_S = 60.0
#: Pause between two looks at a log that grows, seconds.
_LOG_POLL_S = 0.25


class Client(Registration):
    """What a person can ask of a server: register flows, start and follow runs, cancel and remove them.

    `api` is the server's address; without it the settings decide as for the commands, and without those the embedded
    server that runs for this FLOWHERD_HOME. `token` is its API token, by default that of the settings. For servers of
    the 0.x/1.x dialect, not of Prefect 3. Raises ConfigurationError if no server is known.

    Every method raises BackendUnavailable if the server does not answer, and BackendRefused if it refuses. A run is
    named by its id.
    """

    def __init__(self, api: str | None = None, token: str | None = None) -> None:
        from flowherd.backends.discovery import find_api
        from flowherd.client.connect import connect
        from flowherd.config import load_settings

        loaded = load_settings({"cloud.api": api})
        if loaded.settings.uses_work_pool and not api:
            raise ConfigurationError(
                f"the settings name the work pool {loaded.settings.prefect3.pool!r}, which is on a Prefect 3 server; "
                "use Prefect's own client there, or give api= the address of another server"
            )
        found = find_api(loaded)
        if found is None:
            raise ConfigurationError(
                f"no API is known: none is set (api=, FLOWHERD__CLOUD__API) and no embedded server is running for "
                f"{loaded.paths.home}; start one with `flowherd start` or `flowherd server`"
            )
        self._init(connect(loaded, found, token=token or ""), loaded)

    @classmethod
    def over(cls, connection: UserClient, loaded: LoadedSettings) -> Client:
        """Return a client over a connection that is open, for the command line."""
        client = cls.__new__(cls)
        client._init(connection, loaded)
        return client

    def _init(self, connection: UserClient, loaded: LoadedSettings) -> None:
        # These two are for the command line, and not public.
        self.connection = connection
        self.loaded = loaded
        self._has_asked = False

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    @property
    def address(self) -> str:
        """The server's address."""
        return self.connection.address

    # Flows

    def flows(self, name: str | None = None, *, project: str | None = None) -> list[RegisteredFlow]:
        """Return the registered flows, the newest first; only those with this name, of this project."""
        return self.connection.flows.find(name, project)

    def flow(self, name: str, *, project: str | None = None) -> RegisteredFlow:
        """Return a flow. Raises NotFound if there is none, InvalidRequest if several projects have one."""
        return lookup.find_flow(self.connection, name, project)

    def unregister(self, name: str, *, project: str | None = None) -> Unregistered:
        """End a flow's schedule and cancel its waiting runs; its history stays until it is pruned.

        Runs that agents have go on. Registering the flow again makes the next version. Raises as `flow` does.
        """
        return self.connection.removal.unregister(self.flow(name, project=project))

    def delete_flow(self, name: str, *, project: str | None = None) -> int:
        """Delete all versions of a flow, registered or not, with their runs and logs; return how many versions.

        Raises InvalidRequest if an agent has one of the runs, and as `flow` does.
        """
        flow = lookup.find_flow(self.connection, name, project, unregistered=True)
        return self.connection.removal.delete(flow)

    # Runs

    def run(
        self,
        flow: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        at: datetime | None = None,
        late: bool = False,
        labels: Sequence[str] | None = None,
        name: str | None = None,
        project: str | None = None,
    ) -> str:
        """Create a run of a flow and return its id.

        It starts at the aware time `at`, by default now; without `labels` it has the flow's. Raises InvalidRequest for
        a parameter that the flow does not take, and for a time more than a minute ago unless `late` is true; else as
        `flow` does.
        """
        if at is not None and not late:
            _refuse_past(at)
        found, given = self.flow(flow, project=project), dict(parameters or {})
        unknown = complaints(given, found.parameters)
        if unknown:
            raise InvalidRequest(f"no run of {flow!r} was created: {'; '.join(unknown)}")
        every = {**falsy_defaults(found.defaults), **given}
        return self.connection.runs.create(found.id, parameters=every, at=at, labels=labels, name=name)

    def get(self, run_id: str) -> RunView:
        """Return a run. Raises NotFound if there is none."""
        self._ask_what_the_server_knows()
        found = self.connection.runs.get(run_id)
        if found is None:
            raise NotFound(f"there is no run {run_id} at {self.address}")
        return found

    def find_run(self, text: str) -> RunView:
        """Return the run that a person means: its id, the beginning of its id, or its name.

        Raises NotFound if there is none, InvalidRequest if there are several.
        """
        return lookup.find_run(self.connection, text)

    def runs(
        self,
        *,
        states: Collection[str] = (),
        flow: str | None = None,
        labels: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        search: str = "",
        limit: int = 100,
    ) -> list[RunView]:
        """Return the newest runs that match, newest first; at most `limit`.

        `states` are those of the dialect, such as "Failed"; `*` in `flow` stands for anything; a run must have all of
        the `labels`. `since` and `until` are about when it started, or is due; `search` is a text in its name, its
        flow's name or its message, or the beginning of its id.
        """
        from flowherd.client.run_filter import RunFilter

        self._ask_what_the_server_knows()
        wanted = RunFilter(
            states=sorted(states),
            flows=[flow] if flow is not None else [],
            labels=list(labels),
            since=since,
            until=until,
            search=search,
        )
        return self.connection.run_list.matching(wanted, limit)

    def wait(self, run_id: str, timeout_s: float | None = None) -> RunSummary:
        """Wait for the end of a run and return how it ended.

        A server that does not answer is waited for, two minutes long. Raises WaitTimeout if the run has not ended after
        `timeout_s` seconds, NotFound if there is no such run or it was deleted.
        """
        with contextlib.closing(self.as_completed([run_id], timeout_s)) as ends:
            for ended in ends:
                return ended
        raise WaitTimeout(f"the run {run_id} has not ended after {timeout_s:g} s; it goes on")

    def as_completed(
        self,
        run_ids: Sequence[str],
        timeout_s: float | None = None,
        *,
        on_silence: Callable[[BackendUnavailable], None] = lambda _error: None,
    ) -> Generator[RunSummary, None, None]:
        """Yield each of the runs as it ends; end when all have ended, or after `timeout_s` seconds.

        `on_silence` is called when the server does not answer. Raises as `wait` does, except WaitTimeout.
        """
        return ends_of(self.connection, run_ids, timeout_s=timeout_s, on_silence=on_silence)

    def logs(self, run_id: str, *, follow: bool = False) -> Iterator[LogView]:
        """Yield the lines of a run's log, oldest first; with `follow` also those to come, until the run has ended.

        Raises NotFound if there is no such run.
        """
        run: RunSummary = self.get(run_id)
        log = self.connection.log(run_id)
        with contextlib.closing(self.connection.end_of(run_id)) as end:
            end.follow()
            while True:
                while lines := log.next_lines():
                    yield from lines
                if run.finished or not follow:
                    return
                # An end that is told comes after the whole log was stored.
                run = end.wait(_LOG_POLL_S) or self.get(run_id)

    def cancel(self, run_id: str) -> str:
        """Ask for the end of a run and return its state afterwards; one that has ended stays as it is.

        Raises NotFound if there is no such run.
        """
        (change,) = self.cancel_all([run_id])
        if change.state is None:
            raise NotFound(f"there is no run {run_id} at {self.address}")
        return change.state

    def cancel_all(self, run_ids: Sequence[str]) -> list[RunChange]:
        """Ask for the ends of runs and return what became of each; nothing is raised for one that does not exist."""
        return self.connection.run_changes.cancel(run_ids)

    def retry(self, run_id: str, *, latest: bool = False) -> str:
        """Create a run with the parameters, labels and version of one that has ended; return the new run's id.

        With `latest` it is of the newest version. flowherd's server remembers which run it repeats
        (`RunView.repeats`). Raises NotFound if there is no such run, InvalidRequest if it cannot be repeated.
        """
        (repeat,) = self.retry_all([self.get(run_id)], latest=latest)
        if repeat.id is None:
            raise InvalidRequest(f"the run {run_id} was not repeated: {repeat.problem}")
        return repeat.id

    def retry_all(self, runs: Sequence[RunView], *, latest: bool = False) -> list[RunRepeat]:
        """Repeat runs as `retry` does, and return what became of each."""
        unfit = self._unfit_for_newest(runs) if latest else {}
        fit = [run for run in runs if run.id not in unfit]
        repeats = {repeat.repeats: repeat for repeat in self.connection.run_changes.repeat(fit, latest=latest)}
        repeats |= unfit
        return [repeats[run.id] for run in runs]

    def _unfit_for_newest(self, runs: Sequence[RunView]) -> dict[str, RunRepeat]:
        """Return the runs with parameters that the newest version of their flow does not take."""
        from flowherd.client.run_changes import RunRepeat

        newest: dict[str, list[RegisteredFlow]] = {}
        unfit = {}
        for run in runs:
            if run.flow not in newest:
                newest[run.flow] = self.flows(run.flow)
            # Flows of this name in several projects are not told apart here.
            known = newest[run.flow][0].parameters if len(newest[run.flow]) == 1 else None
            if unknown := complaints(run.parameters, known):
                unfit[run.id] = RunRepeat(repeats=run.id, id=None, problem="; ".join(unknown))
        return unfit

    def delete_all(self, run_ids: Sequence[str]) -> list[RunChange]:
        """Delete runs with their logs and return what became of each; one that an agent has is not deleted."""
        return self.connection.run_changes.delete(run_ids)

    def _ask_what_the_server_knows(self) -> None:
        """Have the server identify itself: only flowherd's own has all fields of a run."""
        if not self._has_asked:
            self.connection.is_flowherd_server()
            self._has_asked = True

    # Schedules and agents

    def schedules(self, name: str | None = None, *, project: str | None = None) -> list[ScheduleView]:
        """Return the schedules of all registered flows; only of flows with this name, of this project."""
        return self.connection.schedules.find(datetime.now(timezone.utc), name, project)

    def switch_schedule(self, flow: str, *, on: bool, project: str | None = None) -> None:
        """Switch the schedule of a flow on or off; its runs that have not started are created or deleted.

        Raises NotFound if there is no such flow or it has no schedule, InvalidRequest if several projects have one.
        """
        found = lookup.find_schedule(self.connection, flow, project)
        if found.active != on:
            self.connection.schedules.switch(found.flow_id, on=on)

    def next_times(self, flow: str, count: int = 5, *, project: str | None = None) -> list[datetime]:
        """Return the next times of a flow's schedule, at most `count`, also if it is switched off.

        Another server than flowherd's knows only the times of the runs that it has created ahead. Raises as
        `switch_schedule` does.
        """
        found = lookup.find_schedule(self.connection, flow, project)
        return self.connection.schedules.next_times(found.flow_id, count, datetime.now(timezone.utc))

    def agents(self) -> list[AgentView]:
        """Return all agents that the server knows, also those that have stopped."""
        return self.connection.agents.all()


def _refuse_past(at: datetime) -> None:
    if at.tzinfo is None:
        raise InvalidRequest(f"the time {at.isoformat()} has no offset from UTC; use an aware datetime")
    behind = datetime.now(timezone.utc) - at
    if behind > timedelta(seconds=NOT_LATE_S):
        raise InvalidRequest(f"{at.isoformat(timespec='seconds')} is over; such a run starts at once, with late=True")
