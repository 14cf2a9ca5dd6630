"""What the backend has of a run that is to be explained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from flowherd.cli import exit_codes
from flowherd.cli.failures import exit_code_of
from flowherd.cli.open_client import open_client
from flowherd.errors import FlowherdError
from flowherd.states import ACTIVE, RunState

if TYPE_CHECKING:
    from flowherd.client.attempts import AttemptView
    from flowherd.client.runs import RunView
    from flowherd.story.account import Account
    from flowherd.story.records import AgentView, NoticeView, StateView, WaitingTaskView

#: After an error with one of these codes, a directory on this host may still have the run.
_TRY_DIRECTORY = (exit_codes.UNREACHABLE, exit_codes.NOT_FOUND)


@dataclass(frozen=True, kw_only=True)
class AtBackend:
    """What the backend has of a run; nothing if it does not answer or has no such run."""

    run: RunView | None = None
    states: Sequence[StateView] = ()
    notices: Sequence[NoticeView] = ()
    agents: Sequence[AgentView] = ()
    attempts: Sequence[AttemptView] = ()
    tasks: Sequence[WaitingTaskView] = ()
    account: Account | None = None
    first_line: datetime | None = None
    changed: datetime | None = None
    error: FlowherdError | None = None

    @property
    def agent_name(self) -> str | None:
        """The name of the agent that claimed the run last."""
        return None if self.run is None else self._name_of(self.run.agent_id)

    @property
    def earlier_agents(self) -> dict[datetime, str | None]:
        """The names of the agents that had the attempts that have ended, by the times of these ends."""
        return {each.end_time: self._name_of(each.agent_id) for each in self.attempts if each.end_time is not None}

    def _name_of(self, agent_id: str | None) -> str | None:
        from flowherd.story.records import agent_name

        return agent_name(self.agents, agent_id)


def ask_backend(text: str, api: str | None, *, with_phases: bool = False) -> AtBackend:
    """Return what the backend has of the run that `text` means.

    Raises the error if a directory on this host could not know the run either.
    """
    from flowherd.client.lookup import find_run

    try:
        client, _ = open_client(api)
        client.is_flowherd_server()  # only that server has all fields of a run
        found = find_run(client, text)
        if found.state in ACTIVE:
            found = client.runs.with_figures(found.id) or found
        history = client.history(found.id)
        tasks = history.waiting_tasks() if found.state == RunState.RUNNING else []
        states = history.states()
        was_tried_again = any(state.state == RunState.RETRYING for state in states)
        return AtBackend(
            run=found,
            states=states,
            attempts=client.attempts(found.id).ended if was_tried_again else [],
            notices=history.notices(),
            agents=client.agents.all(),
            tasks=tasks,
            account=history.account() if found.finished else None,
            first_line=history.first_line_at() if with_phases else None,
            changed=history.changed_at() if with_phases else None,
        )
    except FlowherdError as error:
        if exit_code_of(error) not in _TRY_DIRECTORY:
            raise
        return AtBackend(error=error)
