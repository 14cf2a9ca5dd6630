"""Every error that flowherd raises on purpose: one root, a class for each thing a caller can do something about.

The message says what was tried, on what, and what to do next. This module knows nothing else of flowherd.
"""


class FlowherdError(Exception):
    """Root of all errors that flowherd raises on purpose."""


class ConfigurationError(FlowherdError):
    """A setting has a value that cannot be used; the message names the setting and where the value came from."""


class StateDirectoryBusy(FlowherdError):
    """Another agent holds this state directory."""


class RunDirectoryDamaged(FlowherdError):
    """A run directory holds something that is not of the contract; only this run is affected."""


class DeployError(FlowherdError):
    """The runner of a flow run could not be started."""


class UnsupportedStorage(FlowherdError, ValueError):
    """The flow is stored in a way that this agent cannot run."""


class IllegalTransition(FlowherdError):
    """A state was asked to change in a way that the table of states does not have; nothing was changed."""

    def __init__(self, state: str, event: str) -> None:
        super().__init__(f"{event} is not possible in state {state}")
        self.state = state
        self.event = event


class BackendError(FlowherdError):
    """The backend did not do what it was asked."""


class BackendUnavailable(BackendError):
    """No answer, or none that can be understood: the same call may succeed later. It may also have been carried out.

    `retry_after_s` is the backend's own wish, where it gave one.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BackendRefused(BackendError):
    """The backend understood and said no; the same call will not succeed later. `code` is its machine-readable word."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class NotAuthorized(BackendRefused):
    """The backend did not accept the token."""


class ClaimLost(BackendRefused):
    """Another agent has this flow run, or it is no longer to be started: "State update failed"."""
