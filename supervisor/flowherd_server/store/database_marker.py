"""The file database.json beside the database: which database was there, and how far it had come.

From it a starting server knows that there was a database which is gone, or that the one there is an older copy. It is
written without a flush: after a power cut it may be older than the database, which is harmless. If the directory itself
is moved away under a server, the file is written beside it, as DIRECTORY.lost.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from loguru import logger
from sqlalchemy import Connection, insert, select, text, update

from flowherd.errors import ConfigurationError
from flowherd.recurring_error import RecurringError
from flowherd_server.store.database import FILE_NAME, Database
from flowherd_server.store.database_files import put_stale_wal_aside
from flowherd_server.store.microseconds import now_us
from flowherd_server.store.tables import FLOW_RUN_STATE, THIS_DATABASE

MARKER_FILE = "database.json"


@dataclass(frozen=True, kw_only=True)
class Marker:
    """What is known of the database that a server last used."""

    #: Id of the database; copies of it have the same.
    database: str
    #: Number of states that runs had entered in it.
    states: int
    #: Inodes of the database and of its WAL.
    inode: int
    wal_inode: int


def open_database(data_dir: Path) -> Database:
    """Open the database of a data directory, creating it only if there never was one.

    Raises what `Database` raises, and ConfigurationError if the directory had a database that is gone.
    """
    path, marker = data_dir / FILE_NAME, read_marker(data_dir)
    if marker is not None and not (path.exists() and path.stat().st_size):
        names = " and ".join(str(name) for name in (data_dir / MARKER_FILE, _beside(data_dir)) if name.exists())
        raise ConfigurationError(
            f"{data_dir} had a database, and it is gone: there is no {FILE_NAME}, or it is empty. Put a backup there; "
            f"or remove {names} to begin with an empty database, without flows and runs"
        )
    put_stale_wal_aside(path, None if marker is None else (marker.inode, marker.wal_inode))
    return Database(path)


def read_marker(data_dir: Path) -> Marker | None:
    """Return what database.json says; None if there is none, or one that cannot be used."""
    inside = data_dir / MARKER_FILE
    name = inside if inside.exists() else _beside(data_dir)
    try:
        found: dict[str, Any] = json.loads(name.read_bytes())
        whole = {name: int(found[name]) for name in ("states", "inode", "wal_inode")}
        return Marker(database=str(found["database"]), **whole)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        logger.warning("{} cannot be used and is made again: {!r}", name, error)
        return None


def _beside(data_dir: Path) -> Path:
    return data_dir.with_name(f"{data_dir.name}.lost")


class DatabaseRecord:
    """Keeps database.json up to date, and knows whether the database is an older copy of what was there before."""

    def __init__(self, database: Database, data_dir: Path) -> None:
        self._database = database
        self._data_dir = data_dir
        self._writing = RecurringError(f"write {data_dir / MARKER_FILE}", logger)
        #: What the file says.
        self._written: Marker | None = None
        self._writes = -1
        before = read_marker(data_dir)
        with database.writing() as connection:
            row = connection.execute(select(THIS_DATABASE)).mappings().first()
            #: Why the database is taken for an older copy; empty if it is not.
            self.restored = _why_older(before, self._marker(connection, row["id"] if row else ""), row is not None)
            if row is None:
                connection.execute(insert(THIS_DATABASE), {"id": str(uuid4()), "created": now_us()})
            if self.restored:
                connection.execute(update(THIS_DATABASE), {"restored": now_us()})
            row = connection.execute(select(THIS_DATABASE)).mappings().one()
        self._id: str = row["id"]
        #: When the database was last found to be an older copy (microseconds since the epoch); None if it never was.
        self.restored_us: int | None = row["restored"]
        self.keep()

    def keep(self) -> None:
        """Write database.json again if the database has grown. A failure is logged and tried again."""
        if self._database.writes == self._writes or self._database.lost:
            return
        writes = self._database.writes
        with self._database.reading() as connection:
            marker = self._marker(connection, self._id)
        unchanged, self._written = marker == self._written, marker
        try:
            if not unchanged:
                _write(self._data_dir / MARKER_FILE, marker)
                _beside(self._data_dir).unlink(missing_ok=True)
        except OSError as error:
            self._writing.failed(error)
            return
        self._writing.recovered()
        self._writes = writes

    def note_loss(self) -> None:
        """Have the next server take what is there then for an older copy."""
        assert self._written is not None, "written when the database was opened"
        inside = self._data_dir / MARKER_FILE
        with suppress(OSError):
            _write(inside if self._data_dir.exists() else _beside(self._data_dir), replace(self._written, inode=0))

    def _marker(self, connection: Connection, database_id: str) -> Marker:
        # It never falls, even if rows are deleted (https://sqlite.org/autoinc.html).
        query = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
        states = connection.execute(query, {"name": FLOW_RUN_STATE.name}).scalar() or 0
        inode, wal_inode = self._database.inodes
        return Marker(database=database_id, states=states, inode=inode, wal_inode=wal_inode)


def _why_older(before: Marker | None, now: Marker, has_id: bool) -> str:
    if before is None:
        # A database without an id is of a release before there were ids, or is new.
        return f"{MARKER_FILE} does not come with it" if has_id and now.states else ""
    if before.database != now.database:
        return "it is another one than was here before"
    if before.states > now.states:
        return f"runs had entered {before.states} states in the one that was here before, and {now.states} in this one"
    is_copy = before.inode != now.inode and now.states > 0
    return "its file is not the one that was here before" if is_copy else ""


def _write(name: Path, marker: Marker) -> None:
    temporary = name.with_name(f".{name.name}.new")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(asdict(marker), file)
        temporary.replace(name)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
