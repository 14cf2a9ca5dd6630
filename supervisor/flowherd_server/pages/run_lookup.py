"""The run that an address names, and those beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import select

from flowherd_server.pages.frame import Ask, NoSuchPage
from flowherd_server.store.plain import find_row
from flowherd_server.store.tables import FLOW_RUN


def run_of(ask: Ask) -> dict[str, Any]:
    """Return the row of the run that the path names. Raises NoSuchPage."""
    try:
        run_id = str(UUID(ask.given["run"]))
    except ValueError:
        run_id = ""
    run = find_row(ask.connection, FLOW_RUN, run_id) if run_id else None
    if run is None:
        raise NoSuchPage(
            f"There is no flow run {ask.given['run']}. It was deleted, or ended longer ago than runs are kept "
            "(server.keep_finished)."
        )
    return run


def neighbours_of(ask: Ask, run: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the ids of the runs of the same version of the flow that were created before and after this one."""
    of_flow, created = FLOW_RUN.c.flow_id == run["flow_id"], FLOW_RUN.c.created
    before = select(FLOW_RUN.c.id).where(of_flow, created < run["created"]).order_by(created.desc()).limit(1)
    after = select(FLOW_RUN.c.id).where(of_flow, created > run["created"]).order_by(created).limit(1)
    return {"before": ask.connection.execute(before).scalar(), "after": ask.connection.execute(after).scalar()}
