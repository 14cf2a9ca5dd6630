"""Refusals of requests, and the error codes in the answers."""

from __future__ import annotations

from flowherd.errors import FlowherdError

#: The request is well-formed but cannot be carried out.
BAD_USER_INPUT = "BAD_USER_INPUT"
NOT_FOUND = "NOT_FOUND"
#: The run's present state or version does not allow the change of state.
STATE_REFUSED = "STATE_REFUSED"
#: A reported Running names another version than the stored one. Prefect's engine then goes on from the stored state.
VERSION_LOCKED = "VERSION_LOCKING_ERROR"
#: A temporary failure. The dialect's clients repeat the request if the answer contains this word.
API_ERROR = "API_ERROR"
INTERNAL = "INTERNAL_SERVER_ERROR"
PARSE_FAILED = "GRAPHQL_PARSE_FAILED"
VALIDATION_FAILED = "GRAPHQL_VALIDATION_FAILED"
UNAUTHENTICATED = "UNAUTHENTICATED"


class Refused(FlowherdError):
    """The operation is refused; nothing has changed.

    `extensions` goes into the GraphQL answer with the message.
    """

    def __init__(self, message: str, code: str = BAD_USER_INPUT) -> None:
        super().__init__(message)
        self.extensions = {"code": code}


class DatabaseUnusable(FlowherdError):
    """The database cannot be opened now: the disk is full, cannot be written, or another program has the file."""


class DatabaseLost(FlowherdError):
    """The database's files are no longer those that the server has open, so nothing may be written or acknowledged."""


def not_found(what: str, key: object) -> Refused:
    """Return the refusal for an id that does not exist."""
    return Refused(f"{what} {key} not found", NOT_FOUND)


def errors_answer(message: str, code: str) -> dict[str, object]:
    """Return an answer with one error, in GraphQL's form."""
    return {"errors": [{"message": message, "extensions": {"code": code}}]}
