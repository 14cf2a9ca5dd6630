"""The SQLite database: WAL mode, one writer at a time, any number of readers.

A durable write is on the disk before it is acknowledged (synchronous=FULL). A soft write survives the death of the
server, but not a power cut. It is for heartbeats and the like, which would otherwise cost a disk flush each.

Nothing is acknowledged that went into files which were deleted or replaced (database_files.py). A failure to write is
kept as the `problem` of the database until a write succeeds.
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from loguru import logger
from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, select
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError

from flowherd.errors import ConfigurationError
from flowherd.recurring_error import RecurringError
from flowherd_server.errors import DatabaseLost, DatabaseUnusable
from flowherd_server.store.conversion import LAST_OLD_LAYOUT, finish_conversion, keep_copy, set_old_tables_aside
from flowherd_server.store.database_files import DatabaseFiles
from flowherd_server.store.microseconds import now_us
from flowherd_server.store.migrations import bring_up_to_date
from flowherd_server.store.plain import dump_json, plain
from flowherd_server.store.postgres_functions import add_postgres_functions
from flowherd_server.store.tables import SCHEMA_VERSION, TENANT

FILE_NAME = "flowherd.sqlite"
#: How long to wait for another process that holds the file (a backup, the sqlite3 shell), milliseconds.
_BUSY_TIMEOUT_MS = 10_000
#: The first version with generated columns.
_OLDEST_SQLITE = (3, 31)
#: Number of free pages that are returned in one transaction after a conversion.
_PAGES_AT_ONCE = 2_000
_LARGEST_IDLE_WAL_BYTES = 64 * 1024 * 1024
#: Longest time of one statement that only reads, seconds.
STATEMENT_S = 10.0
#: Longest time of all statements of one transaction that only reads, seconds.
TRANSACTION_S = 30.0
#: Number of SQLite's instructions between two looks at the clock.
_INSTRUCTIONS = 10_000


class Database:
    """The server's database file. Methods may be called from any thread."""

    def __init__(self, path: Path) -> None:
        """Open `path`, creating it and its tables if they do not exist.

        A database of an earlier release is converted first, which takes minutes if it has millions of log lines.
        Raises ConfigurationError if it is not a database, or one that a newer release has written, or if there is no
        room to convert it; DatabaseUnusable if it cannot be opened now, because the disk is full, for example.
        """
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise ConfigurationError(
                f"this Python's SQLite is {sqlite3.sqlite_version}; the server needs 3.31 or newer"
            )
        self.path = path
        self._writing = threading.Lock()
        self._write_errors = RecurringError(f"write to {path}", logger)
        self._write_error = ""
        self._files: DatabaseFiles | None = None
        #: Connections that are kept for writing, by whether their writes are durable.
        self._writers: dict[bool, Connection] = {}
        #: Number of durable write transactions so far.
        self.writes = 0
        self._durable = self._engine(path, "BEGIN IMMEDIATE", synchronous="FULL")
        self._soft = self._engine(path, "BEGIN IMMEDIATE", synchronous="NORMAL")
        self._readers = self._engine(path, "BEGIN", query_only=True)
        _limit_statements(self._readers)
        try:
            # SQLite creates the WAL and its index with the mode of this file.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            _set_up(path)
            layout = _known_layout(path)
            if 0 < layout <= LAST_OLD_LAYOUT:
                keep_copy(path, layout)
            with self.writing() as connection:
                _prepare(connection)
            if finish_conversion(path, lambda: self.writing(durable=False)):
                self._give_back_all_space()
            self._files = DatabaseFiles(path)
        except (DatabaseError, sqlite3.DatabaseError, OSError) as error:
            reason = error.orig if isinstance(error, DatabaseError) else error
            text = f"{path} cannot be used as the server's database: {reason}{_of_full_disk(path)}"
            if isinstance(reason, (sqlite3.OperationalError, OSError)):  # a full disk, a file system that is read-only
                raise DatabaseUnusable(text) from error
            raise ConfigurationError(text) from error

    def _engine(self, path: Path, begin: str, **pragmas: object) -> Engine:
        engine = _engine(path, begin, **pragmas)

        def check(*_: object) -> None:
            # It would make an empty file, or its end would write the old WAL into another database.
            if self._files is not None:
                self._files.check_names()

        event.listen(engine, "do_connect", check)
        return engine

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that reads one consistent state of the database. Raises DatabaseLost."""
        if self._files is not None and self._files.lost:
            self._files.check_names()
        try:
            with self._readers.connect() as connection, connection.begin():
                yield connection
        except sqlite3.Error as error:
            raise _as_of_sqlalchemy(error) from error

    @contextmanager
    def writing(self, durable: bool = True) -> Iterator[Connection]:
        """Open a transaction that excludes other writers. An exception rolls it back.

        Raises DatabaseLost if the database's files are not in their place, before the transaction or when it is done.
        """
        # One block, because each further context manager costs as much as a statement.
        with self._writing:
            self._check_files()
            try:
                connection = self._writer(durable)
                with connection.begin():
                    yield connection
            except BaseException as error:
                self._release_writers()
                if isinstance(error, sqlite3.Error):
                    raise self._noted(_as_of_sqlalchemy(error)) from error
                raise self._noted(error)  # noqa: B904  # the same error
            self.writes += durable
            self._check_files()
            self._note_success()

    def _writer(self, durable: bool) -> Connection:
        """Return the connection for a write: the same one each time, because to take one from a pool costs more."""
        connection = self._writers.get(durable)
        if connection is None:
            connection = self._writers[durable] = (self._durable if durable else self._soft).connect()
        return connection

    def _release_writers(self) -> None:
        while self._writers:
            self._writers.popitem()[1].close()

    def _noted(self, error: BaseException) -> BaseException:
        """Note why a write failed. Returns the error."""
        if isinstance(error, OperationalError):
            self._write_error = str(error.orig)
            self._write_errors.failed(error.orig or error)
        return error

    def _note_success(self) -> None:
        if self._write_error:
            self._write_error = ""
            self._write_errors.recovered()

    def _check_files(self) -> None:
        if self._files is not None:
            self._files.check()

    def give_back_space(self, pages: int) -> int:
        """Return up to `pages` free pages to the file system. Returns how many there were to return."""
        with self._writing:
            self._check_files()
            with contextlib.closing(self._soft.raw_connection()) as connection:
                free = connection.cursor().execute("PRAGMA freelist_count").fetchone()[0]
                # Each step of this statement frees one page, and only executescript() takes all steps.
                connection.cursor().executescript(f"PRAGMA incremental_vacuum({pages:d})")
            self._check_files()
            self._note_success()
            return min(int(free), pages)

    def checkpoint(self) -> None:
        """Copy what the WAL holds into the file, as far as no reader needs it there.

        Other writers go on meanwhile (https://sqlite.org/c3ref/wal_checkpoint_v2.html). Without this, the writer whose
        commit fills the WAL does it, while the others wait.
        """
        if self.lost:
            return
        with contextlib.closing(self._soft.raw_connection()) as connection:
            connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _give_back_all_space(self) -> None:
        while True:
            with self.reading() as connection:
                if not connection.exec_driver_sql("PRAGMA freelist_count").scalar_one():
                    return
            self.give_back_space(_PAGES_AT_ONCE)

    @property
    def lost(self) -> str:
        """What has happened to the database's files; empty as long as they are in their place."""
        return "" if self._files is None else self._files.lost

    @property
    def problem(self) -> str:
        """Why nothing can be written; empty if the last write succeeded."""
        return self.lost or self._write_error

    @property
    def inodes(self) -> tuple[int, int]:
        """Inodes of the database and of its WAL."""
        assert self._files is not None, "known once the database is open"
        return self._files.inodes

    def look(self) -> None:
        """Check the files, and try to write if the last write failed. Raises DatabaseLost."""
        with self._writing:
            self._check_files()
        if self._write_error:
            with contextlib.suppress(OperationalError), self.writing() as connection:
                version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
                connection.exec_driver_sql(f"PRAGMA user_version={version}")

    def give_up(self) -> None:
        """Leave lost files in an order in which what is there now can be opened; the process must end by `os._exit`.

        The connections stay open: closing the last one would delete the WAL by its name, and another database may have
        that name now. What is committed is written into the database that it belongs to, wherever that is.
        """
        assert self._files is not None and self._files.lost, "only lost files are given up"
        with self._writing:
            self._release_writers()
            if self._files.may_be_checkpointed:
                with contextlib.suppress(DatabaseError, sqlite3.DatabaseError, DatabaseLost):
                    # This pool has a connection since the database was opened.
                    connection = self._durable.raw_connection()
                    connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
            with contextlib.suppress(OSError):
                self._files.put_aside()

    def close(self) -> None:
        """Close all connections that are not in use."""
        with self._writing:
            self._release_writers()
        for engine in (self._readers, self._soft, self._durable):
            engine.dispose()
        if self._files is not None:
            self._files.release()
        self._files = None


def _engine(path: Path, begin: str, **pragmas: object) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"check_same_thread": False, "timeout": _BUSY_TIMEOUT_MS / 1000},
        pool_size=4,
        max_overflow=64,
        json_serializer=dump_json,
        # Errors are logged, and parameters may contain secrets.
        hide_parameters=True,
    )

    def configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # transactions are begun below, and not implicitly by the driver
        connection.execute("PRAGMA foreign_keys=ON")
        # Else a statement of several rows within a savepoint makes a file for the case that it fails.
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute(f"PRAGMA journal_size_limit={_LARGEST_IDLE_WAL_BYTES}")
        for name, value in pragmas.items():
            connection.execute(f"PRAGMA {name}={value}")
        add_postgres_functions(connection)

    event.listen(engine, "connect", configure)
    event.listen(engine, "begin", lambda connection: plain(connection).execute(begin))
    return engine


def _as_of_sqlalchemy(error: sqlite3.Error) -> BaseException:
    """Return the error of a statement that SQLAlchemy did not execute (plain.py) as its own."""
    return DBAPIError.instance(None, None, error, sqlite3.Error, hide_parameters=True)


def _limit_statements(engine: Engine) -> None:
    """Interrupt statements that take too long (https://sqlite.org/c3ref/progress_handler.html)."""

    def watch(connection: sqlite3.Connection, record: Any) -> None:
        record.info["until"] = record.info["all_until"] = math.inf
        connection.set_progress_handler(lambda: time.monotonic() > record.info["until"], _INSTRUCTIONS)

    def begin(connection: Connection) -> None:
        now_s = time.monotonic()
        # Also for statements that SQLAlchemy does not see.
        connection.info["until"], connection.info["all_until"] = now_s + STATEMENT_S, now_s + TRANSACTION_S

    def begin_statement(connection: Connection, *_: object) -> None:
        connection.info["until"] = min(time.monotonic() + STATEMENT_S, connection.info["all_until"])

    event.listen(engine, "connect", watch)
    event.listen(engine, "begin", begin, insert=True)  # before its first statement
    event.listen(engine, "before_cursor_execute", begin_statement)


def was_interrupted(error: DatabaseError) -> bool:
    """Return whether a statement was ended because it took too long."""
    return str(error.orig) == "interrupted"


def _of_full_disk(path: Path) -> str:
    """Return what to add to a failure if no room is left, for which SQLite often has only "disk I/O error"."""
    with contextlib.suppress(OSError):
        if os.statvfs(path.parent).f_bavail == 0:
            return "; its file system is full"
    return ""


def _set_up(path: Path) -> None:
    """Set the properties of the file. Once, because each takes the write lock even if nothing changes."""
    with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_MS / 1000)) as connection:
        # This only works in a file without tables.
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")


def _known_layout(path: Path) -> int:
    """Return the file's layout, 0 for a new file. Raises ConfigurationError if only a newer release knows it."""
    with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_MS / 1000)) as connection:
        layout: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if layout > SCHEMA_VERSION:
        raise ConfigurationError(
            f"{path} was written by a newer flowherd (layout {layout}, this one knows {SCHEMA_VERSION}); "
            "upgrade flowherd, or choose another data directory"
        )
    return layout


def _prepare(connection: Connection) -> None:
    set_old_tables_aside(connection)
    bring_up_to_date(connection)
    connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")
    if connection.execute(select(TENANT.c.id).limit(1)).first() is None:
        tenant = {"id": str(uuid4()), "slug": "default", "name": "default", "created": now_us()}
        connection.execute(insert(TENANT), tenant)
