"""The keys of the agents' screen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from flowherd.cli.top import agents_view
from flowherd.cli.top.agents_view import AgentsState
from flowherd.cli.top.dialogs import agent_question
from flowherd.cli.top.picture import AgentRow
from flowherd.cli.top.screens import View
from flowherd.cli.top.spans import Line

if TYPE_CHECKING:
    from flowherd.cli.top.app import TopApp


def ask_agent(view: View, agent: AgentRow, action: str) -> None:
    """Ask a person, and then the agent; "pause" resumes an agent that is paused."""
    if action == "pause" and agent.state == "paused":
        action = "resume"
    top = view.top
    view.confirm(agent_question(agent.name, action), lambda: top.act(lambda: top.source.ask_agent(agent.name, action)))


class AgentsScreen(View):
    """The agents."""

    def __init__(self, top: TopApp) -> None:
        super().__init__(top)
        self.state = AgentsState()

    def draw(self, width: int, height: int) -> list[Line]:
        """Return the lines of the screen."""
        return agents_view.draw(self._agents(), self.state, width, height, datetime.now(timezone.utc))

    def say(self, text: str, style: str = "bold") -> None:
        """Show a line in the place of the keys."""
        self.state.note, self.state.note_style = text, style
        self.redraw()

    def keys(self) -> Mapping[str, Callable[[], None]]:
        """Return what each key does."""
        return {
            **dict.fromkeys(("j", "down"), lambda: self._move(1)),
            **dict.fromkeys(("k", "up"), lambda: self._move(-1)),
            "p": lambda: self._ask("pause"),
            "d": lambda: self._ask("drain"),
            "R": lambda: self._ask("restart"),
            "?": self.show_keys,
            **dict.fromkeys(("escape", "a"), self.back),
            "q": self.leave,
        }

    def scrolled(self, lines: int) -> None:
        """Move through the agents."""
        self._move(lines)
        self.redraw()

    def _agents(self) -> list[AgentRow]:
        return list(self.top.picture.agents) if self.top.picture is not None else []

    def _move(self, by: int) -> None:
        agents = self._agents()
        here = agents_view.current(agents, self.state)
        if here is not None:
            self.state.current = agents[max(0, min(agents.index(here) + by, len(agents) - 1))].name

    def _ask(self, action: str) -> None:
        agent = agents_view.current(self._agents(), self.state)
        if agent is not None:
            ask_agent(self, agent, action)
