"""The tables of notifications, and the trigger by which ends of runs get into them.

A trigger, so that an end and its notification are on the disk in one transaction, however the end was reported. It does
nothing as long as there is no rule or no channel. Of the good ends only those of flows are kept that had failed.
"""

from __future__ import annotations

from sqlalchemy import Column, Connection, Index, Integer, String, Table, insert, text

from flowherd.flow_rules import NOT_MADE_UP
from flowherd.states import SUCCESSFUL, RunState
from flowherd.story.order import BAD
from flowherd_server.store.columns import Json, UuidText, key_columns, time_column
from flowherd_server.store.tables import METADATA

#: Condition of the index of notifications that wait for their delivery.
WAITS = "delivered IS NULL AND given_up IS NULL"

#: One row for each notification and channel: the outbox, and for a time what was delivered.
NOTIFICATION = Table(
    "notification",
    METADATA,
    *key_columns(),
    # The id of the message, which is the same for all channels.
    Column("message_id", UuidText, nullable=False),
    Column("channel", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("title", String, nullable=False),
    # As flowherd/notify/message.py stores it.
    Column("content", Json, nullable=False, info={"hidden": True}),
    Column("flow_run_id", UuidText),
    time_column("created", nullable=False),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    # Why the last delivery failed.
    Column("error", String),
    time_column("next_try"),
    time_column("delivered"),
    time_column("given_up"),
    Index("notification_waiting", "channel", "seq", sqlite_where=text(WAITS)),
    Index("notification_delivered", "channel", "delivered"),
    sqlite_autoincrement=True,
)
#: The rules: those of the settings of the server, and those of projects.
NOTIFICATION_RULE = Table(
    "notification_rule",
    METADATA,
    *key_columns(),
    # Null for the settings.
    Column("project", String),
    Column("rule", Json, nullable=False),
    time_column("created", nullable=False),
    sqlite_autoincrement=True,
)
#: The channels of the settings, without what may be secret.
NOTIFICATION_CHANNEL = Table(
    "notification_channel",
    METADATA,
    *key_columns(),
    Column("name", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("place", String, nullable=False),
    time_column("created", nullable=False),
    sqlite_autoincrement=True,
)
#: What is not well and was noticed (flowherd/notify/changes.py).
NOTIFICATION_CONDITION = Table(
    "notification_condition",
    METADATA,
    Column("key", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("mark", String, nullable=False),
    time_column("since", nullable=False),
    Column("count", Integer, nullable=False),
    sqlite_with_rowid=False,
    info={"hidden": True},
)
#: What has happened and was not looked at yet: ends of runs, and times of schedules that have passed.
NOTIFICATION_EVENT = Table(
    "notification_event",
    METADATA,
    Column("seq", Integer, primary_key=True),
    # "end" of a run, or "missed" times of a flow's schedule.
    Column("kind", String, nullable=False),
    Column("flow_run_id", UuidText),
    Column("flow_id", UuidText, nullable=False),
    Column("state", String),
    Column("message", String),
    Column("serialized_state", Json),
    time_column("at", nullable=False),
    # Number of times that were missed.
    Column("count", Integer),
    sqlite_autoincrement=True,
    info={"hidden": True},
)

#: Good ends: a run that the rules of its flow left out has not shown that the flow works.
GOOD = frozenset(SUCCESSFUL - {RunState.SKIPPED})


def _in(states: frozenset[RunState]) -> str:
    return f"NEW.state IN ({', '.join(sorted(f'{state.value!r}' for state in states))})"


_HAD_FAILED = (
    "EXISTS (SELECT 1 FROM notification_condition WHERE key = 'flow:' || "
    "(SELECT flow_group_id FROM flow WHERE id = NEW.flow_id)) OR EXISTS (SELECT 1 FROM notification_event)"
)
_IS_NOTIFIED = "EXISTS (SELECT 1 FROM notification_rule) AND EXISTS (SELECT 1 FROM notification_channel)"
_TRIGGER = "flow_run_end_to_notify"
_END_TO_NOTIFY = (
    f"CREATE TRIGGER {_TRIGGER} AFTER UPDATE OF state ON flow_run WHEN OLD.version <> NEW.version "
    f"AND ({_in(BAD)} OR {_in(GOOD)} OR NEW.state = '{RunState.SKIPPED.value}') "
    f"AND {_IS_NOTIFIED} "
    f"AND ({_in(BAD)} OR ({_in(GOOD)} AND ({_HAD_FAILED})) OR instr(NEW.state_message, '{NOT_MADE_UP}') > 0) "
    "BEGIN INSERT INTO notification_event "
    '(kind, flow_run_id, flow_id, state, message, serialized_state, "at") VALUES '
    "('end', NEW.id, NEW.flow_id, NEW.state, NEW.state_message, NEW.serialized_state, "
    "coalesce(NEW.end_time, NEW.state_timestamp)); END"
)


def watch_ends(connection: Connection) -> None:
    """Create the trigger, unless it is there as this release has it."""
    query = "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = ?"
    if connection.exec_driver_sql(query, (_TRIGGER,)).scalar() != _END_TO_NOTIFY:
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {_TRIGGER}")
        connection.exec_driver_sql(_END_TO_NOTIFY)


def is_anything_notified(connection: Connection) -> bool:
    """Return whether there are rules and channels."""
    return bool(connection.exec_driver_sql(f"SELECT {_IS_NOTIFIED}").scalar())


def store_missed(connection: Connection, flow_id: str, since_us: int, count: int, why: str) -> None:
    """Note that so many times of a flow's schedule, from `since_us` on, have passed without a run."""
    event = {"kind": "missed", "flow_id": flow_id, "message": why, "at": since_us, "count": count}
    connection.execute(insert(NOTIFICATION_EVENT), event)
