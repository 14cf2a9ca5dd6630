"""The text of a GraphQL document that is written as nested dicts, sets and lists, as for Prefect's own client."""

from __future__ import annotations

from collections.abc import KeysView, Mapping, ValuesView
from typing import Any

_SEQUENCES = (list, tuple, set, frozenset, KeysView, ValuesView)


def query_text(document: Any) -> str:
    """Return the document's text: {"query": {"flow_run": {"id", "name"}}} is `query { flow_run { id name } }`.

    A key whose value is True or ... has no selection of its own. Anything but dicts and sequences stands for its text.
    """
    if isinstance(document, Mapping):
        return " ".join(
            str(field) if selection is True or selection is ... else f"{field} {{ {query_text(selection)} }}"
            for field, selection in document.items()
        )
    if isinstance(document, _SEQUENCES):
        return " ".join(query_text(part) for part in document)
    return str(document)
