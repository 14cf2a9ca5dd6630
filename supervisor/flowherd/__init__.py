"""flowherd: a supervisor agent for one host.

Client      flows and runs at a server: register, run, wait, cancel
Agent       base class: polls a backend and claims flow runs; a subclass defines how to deploy one
LocalAgent  forks one isolated runner process per flow run on this host
FlowRun     the flow run that an agent is to deploy
The errors  that these raise on purpose, from FlowherdError down
"""

# No `from __future__ import annotations`: Pythons that do not know it shall get as far as supported_host.

from typing import TYPE_CHECKING, Any

from flowherd import supported_host  # noqa: F401  # first: says what is needed, where the rest cannot be imported
from flowherd.errors import (
    AuthorizationError,
    BackendError,
    BackendRefused,
    BackendUnavailable,
    ClaimLost,
    ConfigurationError,
    DeployError,
    FlowherdError,
    InvalidRequest,
    NoClient,
    NotAuthorized,
    NotFound,
    OverrideNeverCalled,
    StateDirectoryBusy,
    UnsupportedStorage,
    WaitTimeout,
)

__version__ = "0.1.0"
__all__ = [
    "Agent",
    "AgentView",
    "AuthorizationError",
    "BackendError",
    "BackendRefused",
    "BackendUnavailable",
    "ClaimLost",
    "Client",
    "ConfigurationError",
    "DeployError",
    "FlowRun",
    "FlowherdError",
    "InvalidRequest",
    "LocalAgent",
    "LogView",
    "NoClient",
    "NotAuthorized",
    "NotFound",
    "OverrideNeverCalled",
    "RegisteredFlow",
    "RunChange",
    "RunRepeat",
    "RunSummary",
    "RunView",
    "ScheduleView",
    "StateDirectoryBusy",
    "Unregistered",
    "UnsupportedStorage",
    "WaitTimeout",
    "__version__",
]

if TYPE_CHECKING:
    from flowherd.agent.agent import Agent
    from flowherd.client.agents import AgentView
    from flowherd.client.client import Client
    from flowherd.client.flows import RegisteredFlow
    from flowherd.client.logs import LogView
    from flowherd.client.removal import Unregistered
    from flowherd.client.run_changes import RunChange, RunRepeat
    from flowherd.client.runs import RunSummary, RunView
    from flowherd.client.schedules import ScheduleView
    from flowherd.flow_run import FlowRun
    from flowherd.host.local_agent import LocalAgent

#: The module of each name that is imported when it is used (PEP 562): the command line and the server need none of
#: the modules of an agent.
_MODULES = {
    "Agent": "agent.agent",
    "AgentView": "client.agents",
    "Client": "client.client",
    "FlowRun": "flow_run",
    "LocalAgent": "host.local_agent",
    "LogView": "client.logs",
    "RegisteredFlow": "client.flows",
    "RunChange": "client.run_changes",
    "RunRepeat": "client.run_changes",
    "RunSummary": "client.runs",
    "RunView": "client.runs",
    "ScheduleView": "client.schedules",
    "Unregistered": "client.removal",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"flowherd.{_MODULES[name]}"), name)
