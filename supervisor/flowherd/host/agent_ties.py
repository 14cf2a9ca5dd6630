"""What a host needs of the agent whose platform it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flowherd.agent.connection import Connection
from flowherd.host.class_choices import ClassChoices
from flowherd.host.run_surroundings import HostOptions
from flowherd.values import FlowRun


@dataclass(frozen=True, kw_only=True)
class AgentTies:
    """The agent's connection, and what the host asks the agent or tells it."""

    connection: Connection
    #: Returns what the agent was given; its attributes may change after its constructor has run.
    options: Callable[[], HostOptions]
    #: Returns what the agent's class chooses for one run; raises what the class raises.
    choices: Callable[[FlowRun], ClassChoices]
    #: Makes the agent look for flow runs at once, because there is room for more.
    has_room: Callable[[], None]
    #: Ends a wait for runs early while the agent stops.
    wake: Callable[[], None]
    #: Tells this life of the agent from others.
    instance: str
