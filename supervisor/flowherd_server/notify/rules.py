"""The rules and channels as they are stored: those of the settings, and the rules of projects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from loguru import logger
from sqlalchemy import ColumnElement, Connection, delete, insert, select

from flowherd.notify.delivery import Target
from flowherd.notify.rules import Rule, read_rule
from flowherd_server.store.database import Database
from flowherd_server.store.microseconds import now_us
from flowherd_server.store.notification_tables import NOTIFICATION_CHANNEL, NOTIFICATION_RULE


def stored_rules(connection: Connection) -> list[Rule]:
    """Return all rules. One that this release cannot read is logged and left out."""
    rules = []
    query = select(NOTIFICATION_RULE.c.rule, NOTIFICATION_RULE.c.project).order_by(NOTIFICATION_RULE.c.seq)
    for row in connection.execute(query):
        try:
            rules.append(read_rule(row.rule, row.project))
        except ValueError as error:
            logger.warning("a rule of notifications cannot be followed: {}", error)
    return rules


def stored_channels(connection: Connection) -> list[str]:
    """Return the names of the channels."""
    query = select(NOTIFICATION_CHANNEL.c.name).order_by(NOTIFICATION_CHANNEL.c.seq)
    return list(connection.execute(query).scalars())


def rules_of_project(connection: Connection, project: str | None) -> list[dict[str, Any]]:
    """Return the rules of a project, or with None those of the settings, as they are written."""
    query = select(NOTIFICATION_RULE.c.rule).where(_of(project))
    return list(connection.execute(query.order_by(NOTIFICATION_RULE.c.seq)).scalars())


def store_settings(database: Database, rules: Sequence[Rule], targets: Sequence[Target]) -> None:
    """Store the rules and channels of the settings, unless they are stored already. Raises SQLAlchemyError."""
    with database.reading() as connection:
        same_rules = rules_of_project(connection, None) == [rule.as_json() for rule in rules]
        columns = NOTIFICATION_CHANNEL.c
        query = select(columns.name, columns.kind, columns.place).order_by(columns.seq)
        same_channels = [tuple(row) for row in connection.execute(query)] == [_channel(target) for target in targets]
    if same_rules and same_channels:
        return
    with database.writing() as connection:
        replace_rules(connection, None, rules)
        _replace_channels(connection, targets)


def replace_rules(connection: Connection, project: str | None, rules: Sequence[Rule]) -> None:
    """Store the rules of a project, or with None those of the settings, in place of those that it had."""
    connection.execute(delete(NOTIFICATION_RULE).where(_of(project)))
    now = now_us()
    rows = [{"id": str(uuid4()), "project": project, "rule": rule.as_json(), "created": now} for rule in rules]
    if rows:
        connection.execute(insert(NOTIFICATION_RULE), rows)


def _of(project: str | None) -> ColumnElement[bool]:
    column = NOTIFICATION_RULE.c.project
    return column.is_(None) if project is None else column == project


def _channel(target: Target) -> tuple[str, str, str]:
    return target.name, target.channel.kind, target.channel.shown


def _replace_channels(connection: Connection, targets: Sequence[Target]) -> None:
    connection.execute(delete(NOTIFICATION_CHANNEL))
    now = now_us()
    names = "name", "kind", "place"
    rows = [
        {"id": str(uuid4()), **dict(zip(names, _channel(target), strict=True)), "created": now} for target in targets
    ]
    if rows:
        connection.execute(insert(NOTIFICATION_CHANNEL), rows)
