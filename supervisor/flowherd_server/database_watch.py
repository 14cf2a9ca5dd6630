"""Looks after the database's files while the server runs, and ends the server if they are lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from loguru import logger

from flowherd_server.errors import DatabaseLost
from flowherd_server.store.database import Database
from flowherd_server.store.database_marker import DatabaseRecord

#: Time between two looks, seconds.
_LOOK_S = 1.0
#: How long a server without its database still answers, so that its health can be seen, seconds.
_LAST_ANSWERS_S = 3.0


async def watch_database(database: Database, record: DatabaseRecord, stop: Callable[[], None]) -> None:
    """Look until the database is lost, then call `stop` after a while in which every write is refused."""
    while True:
        await asyncio.sleep(_LOOK_S)
        try:
            await asyncio.to_thread(database.look)
            await asyncio.to_thread(record.keep)
        except DatabaseLost as error:
            await asyncio.to_thread(record.note_loss)
            logger.critical("{}: nothing is written any more, and the server ends in {:.0f} s", error, _LAST_ANSWERS_S)
            await asyncio.sleep(_LAST_ANSWERS_S)
            stop()
            return
