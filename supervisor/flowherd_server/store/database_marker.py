"""The file database.json beside the database: which database was there, and how far it had come.

From it a starting server knows that there was a database which is gone, or that the one there is an older copy. It is
written without a flush: after a power cut it may be older than the database, which is harmless. If the directory itself
is moved away under a server, the file is written beside it, as DIRECTORY.lost.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from loguru import logger
from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import OperationalError

from flowherd.errors import ConfigurationError
from flowherd.private_directory import replace_private_file
from flowherd.recurring_error import RecurringError
from flowherd_server.store.database import FILE_NAME, Database
from flowherd_server.store.database_files import put_stale_wal_aside
from flowherd_server.store.microseconds import now_us
from flowherd_server.store.tables import FLOW_RUN, THIS_DATABASE

MARKER_FILE = "database.json"


@dataclass(frozen=True, kw_only=True)
class Marker:
    """What is known of the database that a server last used."""

    #: Id of the database; copies of it have the same.
    database: str
    #: How far it had come; grows with each second in which something is stored.
    age: int
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
        whole = {name: int(found[name]) for name in ("age", "inode", "wal_inode")}
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
            has_runs = connection.execute(select(FLOW_RUN.c.id).limit(1)).first() is not None
            now = self._marker(connection)
            #: Why the database is taken for an older copy; empty if it is not.
            self.restored = _why_older(before, now) if has_runs and (before or now) else ""
            if now is None:
                connection.execute(insert(THIS_DATABASE), {"id": str(uuid4()), "created": now_us(), "age": 0})
            if self.restored:
                connection.execute(update(THIS_DATABASE), {"restored": now_us()})
            #: When the database was last found to be an older copy (microseconds since the epoch); None if never.
            self.restored_us: int | None = connection.execute(select(THIS_DATABASE.c.restored)).scalar()
        self.keep()

    def keep(self) -> None:
        """Note that the database has grown, if it has, in itself and in database.json.

        A failure is logged and tried again.
        """
        if self._database.writes == self._writes or self._database.lost:
            return
        try:
            with self._database.writing() as connection:
                connection.execute(update(THIS_DATABASE).values(age=THIS_DATABASE.c.age + 1))
                self._written = self._marker(connection)
            assert self._written is not None, "there is one since the database was opened"
            writes = self._database.writes
            _write(self._data_dir / MARKER_FILE, self._written)
            _beside(self._data_dir).unlink(missing_ok=True)
        except OperationalError:  # logged by the database
            return
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

    def _marker(self, connection: Connection) -> Marker | None:
        row = connection.execute(select(THIS_DATABASE)).mappings().first()
        if row is None:
            return None
        inode, wal_inode = self._database.inodes
        return Marker(database=row["id"], age=row["age"], inode=inode, wal_inode=wal_inode)


def _why_older(before: Marker | None, now: Marker | None) -> str:
    if before is None:
        return f"{MARKER_FILE} does not come with it"
    if now is None or before.database != now.database:
        return "it is another one than was here before"
    if before.age > now.age:
        return f"it has come to {now.age}, and the one that was here before to {before.age}"
    return "its file is not the one that was here before" if before.inode != now.inode else ""


def _write(name: Path, marker: Marker) -> None:
    replace_private_file(name, json.dumps(asdict(marker)))
