"""The table of what the ends of runs carry beside their states (flowherd/story/account.py).

Not a column of flow_run: with 8 kB in a row, every look through many runs would read much more. A run that ended well
within seconds has none.
"""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Integer, Table

from flowherd_server.store.columns import Json
from flowherd_server.store.tables import METADATA

RUN_ACCOUNT = Table(
    "run_account",
    METADATA,
    Column("run", Integer, ForeignKey("flow_run.seq", ondelete="CASCADE"), primary_key=True),
    # Version of the run's state that this end has led to; a run that is tried again has several.
    Column("version", Integer, primary_key=True),
    Column("account", Json, nullable=False),
    info={"hidden": True},
)
