"""The parameters that a flow takes, as far as they are known, and what to say about one that it does not take."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

#: Maximum number of a flow's parameters that a message names.
_MAX_NAMED = 20


def parameter_names(storage: object, registered: object) -> tuple[str, ...] | None:
    """Return the names of all parameters that a flow takes; None if they are not known.

    `storage` and `registered` are the flow's storage and its list of parameters at the server. Prefect registers all
    parameters of a flow; its storages have the key "flows". Of a Python function flowherd registers those of its
    signature, in the storage, if it could read them and there is no `**`. Commands take any parameter.
    """
    if not isinstance(storage, Mapping):
        return None
    if storage.get("type") == "Python":
        return _texts(storage.get("parameters"))
    if "flows" not in storage or not isinstance(registered, (list, tuple)):
        return None
    return _texts([row.get("name") if isinstance(row, Mapping) else None for row in registered])


def complaints(given: Iterable[str], known: Collection[str] | None) -> list[str]:
    """Return a sentence about each parameter in `given` that a flow with the parameters `known` does not take."""
    if known is None:
        return []
    return [_complaint(name, known) for name in given if name not in known]


def _complaint(name: str, known: Collection[str]) -> str:
    meant = get_close_matches(name, known, n=1)
    if meant:
        return f"the flow has no parameter {name!r}; did you mean {meant[0]!r}?"
    listed = ", ".join(sorted(known)[:_MAX_NAMED]) + (", ..." if len(known) > _MAX_NAMED else "")
    return f"the flow has no parameter {name!r}; it has " + (listed or "none")


def _texts(value: Any) -> tuple[str, ...] | None:
    """Return a list of texts; None if it is not one."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) for name in value):
        return None
    return tuple(value)
