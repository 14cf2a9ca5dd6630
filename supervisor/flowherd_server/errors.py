"""What the server answers when it will not do what was asked, and the machine-readable words for why."""

from __future__ import annotations

from flowherd.errors import FlowherdError

#: The request is of the right form, but what it says cannot be done.
BAD_USER_INPUT = "BAD_USER_INPUT"
NOT_FOUND = "NOT_FOUND"
#: A state change that the run's present state or version does not allow.
STATE_REFUSED = "STATE_REFUSED"
#: A Running for a version that is not the stored one; Prefect's engine then goes by what is stored.
VERSION_LOCKED = "VERSION_LOCKING_ERROR"
#: Passing trouble; the dialect's clients send the same again when they read this word.
API_ERROR = "API_ERROR"
INTERNAL = "INTERNAL_SERVER_ERROR"
PARSE_FAILED = "GRAPHQL_PARSE_FAILED"
VALIDATION_FAILED = "GRAPHQL_VALIDATION_FAILED"
UNAUTHENTICATED = "UNAUTHENTICATED"


class Refused(FlowherdError):
    """The operation was understood and is not carried out; nothing has changed.

    `extensions` is what GraphQL answers carry beside the message.
    """

    def __init__(self, message: str, code: str = BAD_USER_INPUT) -> None:
        super().__init__(message)
        self.extensions = {"code": code}


def not_found(what: str, key: object) -> Refused:
    """The refusal for an id that names nothing."""
    return Refused(f"{what} {key} not found", NOT_FOUND)


def errors_answer(message: str, code: str) -> dict[str, object]:
    """A refusal outside of any operation, in GraphQL's form."""
    return {"errors": [{"message": message, "extensions": {"code": code}}]}
