"""The run that an address names, and those beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select

from flowherd_server.pages.flow_rows import flow_address, shared_names
from flowherd_server.pages.frame import Ask, NoSuchPage
from flowherd_server.store.plain import find_row
from flowherd_server.store.tables import FLOW_RUN, PROJECT


def run_of(ask: Ask) -> dict[str, Any]:
    """Return the row of the run that the path names. Raises NoSuchPage."""
    return find_run(ask.connection, ask.given["run"])


def find_run(connection: Connection, text: str) -> dict[str, Any]:
    """Return the row of the run with this id. Raises NoSuchPage."""
    try:
        run_id = str(UUID(text))
    except ValueError:
        run_id = ""
    run = find_row(connection, FLOW_RUN, run_id) if run_id else None
    if run is None:
        raise NoSuchPage(
            f"There is no flow run {text}. It was deleted, or ended longer ago than runs are kept "
            "(server.keep_finished)."
        )
    return run


def neighbours_of(ask: Ask, run: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the ids of the runs of the same version of the flow that were created before and after this one."""
    of_flow, created = FLOW_RUN.c.flow_id == run["flow_id"], FLOW_RUN.c.created
    before = select(FLOW_RUN.c.id).where(of_flow, created < run["created"]).order_by(created.desc()).limit(1)
    after = select(FLOW_RUN.c.id).where(of_flow, created > run["created"]).order_by(created).limit(1)
    return {"before": ask.connection.execute(before).scalar(), "after": ask.connection.execute(after).scalar()}


def flow_page_of(ask: Ask, flow: Mapping[str, Any]) -> str:
    """Return the address of the page of a flow, which is a row of its table."""
    project = None
    if flow["name"] in shared_names(ask.connection):
        project = ask.connection.execute(select(PROJECT.c.name).where(PROJECT.c.id == flow["project_id"])).scalar()
    return flow_address(flow["name"], flow["id"], project)
