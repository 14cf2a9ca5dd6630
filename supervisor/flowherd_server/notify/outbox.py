"""The outbox in the database: one row for each notification and channel."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

from sqlalchemy import Connection, delete, insert, select, text, update

from flowherd.notify.delivery import Waiting
from flowherd.notify.message import MOST_TOGETHER, Notification, as_stored, read_stored
from flowherd_server.store.database import Database
from flowherd_server.store.microseconds import SECOND_US, now_us
from flowherd_server.store.notification_tables import NOTIFICATION, WAITS

#: Number of delivered and given up notifications of a channel that are kept, for people.
MOST_KEPT = 1000

_IS_DONE = f"NOT ({WAITS})"
_columns = NOTIFICATION.c


def put(connection: Connection, notification: Notification, channels: Sequence[str]) -> None:
    """Have a notification delivered to these channels, once the transaction is on the disk."""
    now, content = now_us(), as_stored(notification)
    rows = [
        {
            "id": str(uuid4()),
            "message_id": notification.id,
            "channel": channel,
            "kind": notification.kind,
            "title": notification.title,
            "content": content,
            "flow_run_id": notification.run_id,
            "created": now,
        }
        for channel in channels
    ]
    if rows:
        connection.execute(insert(NOTIFICATION), rows)


class DatabaseOutbox:
    """What waits in the database. Every method raises SQLAlchemyError or DatabaseLost."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def waiting(self, channel: str) -> Sequence[Waiting]:
        query = (
            select(_columns.seq, _columns.content, _columns.failures, _columns.next_try)
            .where(_columns.channel == channel, text(WAITS))
            .order_by(_columns.seq)
            .limit(MOST_TOGETHER + 1)
        )
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [
            Waiting(
                key=row.seq,
                notification=read_stored(row.content),
                failures=row.failures,
                next_try=(row.next_try or 0) / SECOND_US,
            )
            for row in rows
        ]

    def sent_since(self, channel: str, since: float) -> Sequence[float]:
        # Notifications that were sent together have the same time, and are one message.
        query = (
            select(_columns.delivered)
            .where(_columns.channel == channel, _columns.delivered >= round(since * SECOND_US))
            .distinct()
            .order_by(_columns.delivered)
        )
        with self._database.reading() as connection:
            return [at / SECOND_US for at in connection.execute(query).scalars() if at is not None]

    def delivered(self, channel: str, entries: Sequence[Waiting], at: float) -> None:
        # Not durable: after a power cut it is delivered again.
        with self._database.writing(durable=False) as connection:
            these = _columns.seq.in_([entry.key for entry in entries])
            connection.execute(update(NOTIFICATION).where(these), {"delivered": round(at * SECOND_US)})
            _delete_old(connection, channel)

    def failed(self, channel: str, entries: Sequence[Waiting], error: str, next_try: float | None) -> None:
        with self._database.writing(durable=False) as connection:
            for entry in entries:
                changed = {"failures": entry.failures + 1, "error": error}
                if next_try is None:
                    changed["given_up"] = now_us()
                else:
                    changed["next_try"] = round(next_try * SECOND_US)
                connection.execute(update(NOTIFICATION).where(_columns.seq == entry.key), changed)


def _delete_old(connection: Connection, channel: str) -> None:
    done = select(_columns.seq).where(_columns.channel == channel, text(_IS_DONE))
    kept = done.order_by(_columns.seq.desc()).offset(MOST_KEPT).limit(1)
    newest = connection.execute(kept).scalar()
    if newest is not None:
        old = delete(NOTIFICATION).where(_columns.channel == channel, _columns.seq <= newest, text(_IS_DONE))
        connection.execute(old)
