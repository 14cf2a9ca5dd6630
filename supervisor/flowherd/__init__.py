"""flowherd: a supervisor agent for one host.

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
    NoClient,
    NotAuthorized,
    OverrideNeverCalled,
    StateDirectoryBusy,
    UnsupportedStorage,
)

__version__ = "0.1.0"
__all__ = [
    "Agent",
    "AuthorizationError",
    "BackendError",
    "BackendRefused",
    "BackendUnavailable",
    "ClaimLost",
    "ConfigurationError",
    "DeployError",
    "FlowRun",
    "FlowherdError",
    "LocalAgent",
    "NoClient",
    "NotAuthorized",
    "OverrideNeverCalled",
    "StateDirectoryBusy",
    "UnsupportedStorage",
    "__version__",
]

if TYPE_CHECKING:
    from flowherd.agent.agent import Agent
    from flowherd.flow_run import FlowRun
    from flowherd.host.local_agent import LocalAgent


def __getattr__(name: str) -> Any:
    # Imported lazily (PEP 562): the command line and the server do not need the modules of an agent.
    if name == "Agent":
        from flowherd.agent.agent import Agent

        return Agent
    if name == "LocalAgent":
        from flowherd.host.local_agent import LocalAgent

        return LocalAgent
    if name == "FlowRun":
        from flowherd.flow_run import FlowRun

        return FlowRun
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
