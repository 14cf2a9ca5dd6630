"""What flowherd's own server knows of one run beside its row: its processes, its curve, and what its end carried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowherd.backends.graphql.transport import ACCOUNTS, LIVE_REPORTS, GraphQLTransport
from flowherd.backends.json_values import mappings_not_null
from flowherd.client.queries import is_flowherd_server, select
from flowherd.story.account import Account, read_account
from flowherd.story.live import ProcessFigures, Sample, read_run_figures


@dataclass(frozen=True, kw_only=True)
class RunDetails:
    """What is known; empty for what is not."""

    processes: Sequence[ProcessFigures] = ()
    #: Its memory and CPU over the last hour while it goes on, oldest first.
    curve: Sequence[Sample] = ()
    #: What its end carried; None while it goes on, and if nothing is known of it.
    account: Account | None = None


def details_of(transport: GraphQLTransport, run_id: str) -> RunDetails:
    """Return the details of a run. Asking for them has its agent report its processes every two seconds.

    Raises BackendUnavailable or BackendRefused.
    """
    if transport.server_version is None:  # nothing was asked yet, or it is another server
        is_flowherd_server(transport)
    known = {LIVE_REPORTS: "processes curve", ACCOUNTS: "account"}
    fields = " ".join(names for extension, names in known.items() if extension in transport.server_extensions)
    if not fields:
        return RunDetails()
    found = select(transport, "flow_run", fields, _details, where={"id": {"_eq": run_id}}, limit=1)
    return found[0] if found else RunDetails()


def _details(row: Mapping[str, Any]) -> RunDetails:
    tree = [dict(one) for one in mappings_not_null(row.get("processes") or [])]
    figures = read_run_figures([{"id": "any", "at": 0, "tree": tree}])
    curve = [
        Sample(*one) for one in row.get("curve") or () if isinstance(one, list) and len(one) == len(Sample._fields)
    ]
    return RunDetails(
        processes=figures[0].tree if figures else (), curve=curve, account=read_account(row.get("account"))
    )
