"""Errors that `Agent.client` raises: also of Prefect's classes, so that `except ClientError` of a subclass works."""

from __future__ import annotations

import sys

from flowherd.errors import BackendRefused, NotAuthorized

#: Where Prefect 1.x and 0.x have their errors.
_MODULES = ("prefect.exceptions", "prefect.utilities.exceptions")
#: Code of an error about a run that the server does not have.
NOT_FOUND = "NOT_FOUND"
#: Names of their classes by code; that for versions is of 0.x, in 1.x it became a signal that is no Exception.
_NAMES = {"VERSION_LOCKING_ERROR": "VersionLockError", NOT_FOUND: "ObjectNotFoundError"}


def also_of_prefect(error: BackendRefused) -> BackendRefused:
    """Return the error as one of Prefect's classes too, if the program has loaded Prefect; else as it is."""
    own_name = "AuthorizationError" if isinstance(error, NotAuthorized) else _NAMES.get(error.code or "")
    for name in filter(None, (own_name, "ClientError")):
        for module in _MODULES:
            theirs = getattr(sys.modules.get(module), name, None)
            if isinstance(theirs, type) and issubclass(theirs, Exception):
                ours = type(error)
                both: type[BackendRefused] = type(theirs.__name__, (ours, theirs), {"__doc__": ours.__doc__})
                return both(str(error), error.code)
    return error
