"""All errors that flowherd raises on purpose: one root class, and one subclass for each failure a caller can handle.

Each message says what was tried, on what, and what to do next.
"""

from __future__ import annotations


class FlowherdError(Exception):
    """Root of all errors that flowherd raises on purpose."""


class ConfigurationError(FlowherdError):
    """A setting has an unusable value; the message names the setting and where the value came from."""


class NoClient(ConfigurationError, AttributeError):
    """The agent's backend does not have the API that `Agent.client` is for, so the agent has no such attribute."""


class StateDirectoryBusy(FlowherdError):
    """Another agent is using this state directory."""


class RunDirectoryDamaged(FlowherdError):
    """A run directory contains something that violates the contract; only this run is affected."""


class DeployError(FlowherdError):
    """The runner of a flow run could not be started."""


class AgentStopping(FlowherdError):
    """The agent is stopping, so a flow run is not started any more; the next agent starts it."""


class UnsupportedStorage(FlowherdError, ValueError):
    """The flow is stored in a way that this agent cannot run."""


class IllegalTransition(FlowherdError):
    """The table of transitions has no such change of state; nothing was changed."""

    def __init__(self, state: str, event: str) -> None:
        super().__init__(f"{event} is not possible in state {state}")
        self.state = state
        self.event = event


class NotFound(FlowherdError, LookupError):
    """There is no such flow or run at the server, or no such file or function to be registered."""


class InvalidRequest(FlowherdError, ValueError):
    """What was asked for is not possible as it was asked, such as a name that two flows have; nothing was changed."""


class WaitTimeout(FlowherdError, TimeoutError):
    """What was waited for has not come within the given time; it goes on."""


class BackendError(FlowherdError):
    """The backend did not carry out a request."""


class BackendUnavailable(BackendError):
    """The backend did not answer, or not understandably. The request may have been carried out; a retry may succeed.

    `retry_after_s` is the pause that the backend asked for, seconds; None if it named none.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class GatewayRefused(BackendUnavailable):
    """A proxy or a gate on the way to the backend answered in its place; the backend has not seen the credentials."""


class BackendRefused(BackendError):
    """The backend refused the request, and would refuse it again. `code` is its machine-readable reason."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class NotAuthorized(BackendRefused):
    """The backend did not accept the token."""


#: The name of the same error in Prefect 0.x and 1.x.
AuthorizationError = NotAuthorized


class ClaimLost(BackendRefused):
    """Another agent has claimed this flow run, or it must not be started any more ("State update failed")."""


class OverrideNeverCalled(UserWarning):
    """A subclass of an agent overrides a method that flowherd never calls; the message says what to override."""
