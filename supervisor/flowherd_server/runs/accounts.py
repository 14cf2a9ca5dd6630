"""What the ends of runs carry beside their states: storing it, and reading it for pages and GraphQL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from flowherd.end_figures import known_figures
from flowherd.states import TAKEN
from flowherd.story.account import MOST_BYTES, Account, read_account
from flowherd_server.graphql.scalars import TABLE_JSON
from flowherd_server.graphql.schema import ComputedField
from flowherd_server.store.plain import dump_json, plain

#: The account of the run's latest end; null while an agent has it, and if nothing is known of the end.
ACCOUNT_FIELDS = (ComputedField("flow_run", "account", TABLE_JSON, ("seq", "state", "serialized_state")),)

_STORE = "INSERT OR REPLACE INTO run_account (run, version, account) VALUES (?, ?, ?)"
_READ = "SELECT account FROM run_account WHERE run = ? ORDER BY version"
#: Escapes make a text of letters outside of ASCII up to six times as long as its UTF-8.
_MOST_CHARACTERS = 3 * MOST_BYTES


def store_account(connection: Connection, run: int, version: int, account: Mapping[str, Any]) -> None:
    """Store the account of an end, which led to this version of the run's state; not one that is too large."""
    text = dump_json(account)
    if len(text) <= _MOST_CHARACTERS:
        plain(connection).execute(_STORE, (run, version, text))


def accounts_of(connection: Connection, run: int) -> list[Account]:
    """Return the accounts of all ends of a run (`flow_run.seq`), the oldest first."""
    rows = plain(connection).execute(_READ, (run,))
    return [found for (text,) in rows if (found := read_account(json.loads(text))) is not None]


def figures_of_state(serialized_state: Any) -> dict[str, float]:
    """Return exit code, signal, CPU time and peak memory from a final state, for a run without an account."""
    found: Any = serialized_state
    for key in ("context", "flowherd", "figures"):
        found = found.get(key) if isinstance(found, dict) else None
    return dict(known_figures(found))


def latest_account(connection: Connection, run: int, serialized_state: Any) -> Account | None:
    """Return what is known of a run's latest end, from its account or else its final state; None for nothing."""
    accounts = accounts_of(connection, run)
    if accounts:
        return accounts[-1]
    figures = figures_of_state(serialized_state)
    return read_account(figures) if figures else None


class AccountFields:
    """Computes these fields for one request, which reads over `connection`."""

    connection: Connection | None

    def account(self, run: int, state: str, serialized_state: Any) -> dict[str, Any] | None:
        """Return the account of a run's latest end as it was sent, or the figures of its final state."""
        if self.connection is None or state in TAKEN:
            return None
        rows = plain(self.connection).execute(_READ, (run,)).fetchall()
        return json.loads(rows[-1][0]) if rows else figures_of_state(serialized_state) or None
