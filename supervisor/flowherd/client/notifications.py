"""The notifications of flowherd's own server: rules, channels, and what became of what was sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flowherd.backends.graphql.literals import Word
from flowherd.backends.graphql.rows import parsed_time
from flowherd.backends.graphql.transport import NOTIFICATIONS, GraphQLTransport
from flowherd.backends.json_values import integer, mapping, text, text_or_none
from flowherd.client.queries import is_flowherd_server, select, understanding

_FIELDS = "message_id channel kind title created failures error next_try delivered given_up"


@dataclass(frozen=True, kw_only=True)
class ChannelView:
    """A channel of the server's settings."""

    name: str
    #: "command", "webhook" or "apprise".
    kind: str
    #: Where it leads, without what may be secret.
    place: str


@dataclass(frozen=True, kw_only=True)
class RuleView:
    """A rule, as it is written (flowherd/notify/rules.py)."""

    #: The project whose file has it; None for the server's settings.
    project: str | None
    rule: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class NotificationView:
    """A notification for one channel."""

    message_id: str
    channel: str
    kind: str
    title: str
    created: datetime | None
    #: Number of deliveries that failed, why the last one did, and when the next one is.
    failures: int
    error: str | None
    next_try: datetime | None
    delivered: datetime | None
    #: When the server stopped trying.
    given_up: datetime | None

    @property
    def state(self) -> str:
        """ "delivered", "given up", "failing" or "waiting"."""
        if self.delivered is not None:
            return "delivered"
        if self.given_up is not None:
            return "given up"
        return "failing" if self.failures else "waiting"


class Notifications:
    """The notifications of one server. Every method raises BackendUnavailable or BackendRefused."""

    def __init__(self, transport: GraphQLTransport) -> None:
        self._transport = transport

    def are_sent(self) -> bool:
        """Ask whether the server can send any."""
        return is_flowherd_server(self._transport) and NOTIFICATIONS in self._transport.server_extensions

    def channels(self) -> list[ChannelView]:
        """Return the channels in the order of the settings."""
        return select(self._transport, "notification_channel", "name kind place", _channel)

    def rules(self) -> list[RuleView]:
        """Return all rules, those of the settings first."""
        found = select(self._transport, "notification_rule", "project rule", _rule)
        return sorted(found, key=lambda each: each.project or "")

    def newest(self, limit: int) -> list[NotificationView]:
        """Return the newest notifications, the newest first."""
        return select(self._transport, "notification", _FIELDS, _view, order_by={"created": Word("desc")}, limit=limit)

    def undelivered(self, limit: int) -> list[NotificationView]:
        """Return the notifications whose delivery has failed and that are not delivered since, the oldest first."""
        where = {"delivered": {"_is_null": True}, "failures": {"_gt": 0}}
        return select(
            self._transport, "notification", _FIELDS, _view, where=where, order_by={"created": Word("asc")}, limit=limit
        )

    def of_message(self, message_id: str) -> list[NotificationView]:
        """Return what became of one message, by channel."""
        return select(self._transport, "notification", _FIELDS, _view, where={"message_id": {"_eq": message_id}})

    def test(self, channels: Sequence[str]) -> str:
        """Have a test delivered to these channels, or to all if none are named; return the message's id."""
        answer = self._transport.mutate("test_notification", {"channels": list(channels)}, "message_id")
        with understanding(self._transport, "the answer to test_notification"):
            return text(answer["message_id"])


def _channel(row: Mapping[str, Any]) -> ChannelView:
    return ChannelView(name=text(row["name"]), kind=text(row["kind"]), place=text(row["place"]))


def _rule(row: Mapping[str, Any]) -> RuleView:
    return RuleView(project=text_or_none(row["project"]), rule=mapping(row["rule"]))


def _view(row: Mapping[str, Any]) -> NotificationView:
    times = {name: parsed_time(row[name]) for name in ("created", "next_try", "delivered", "given_up")}
    return NotificationView(
        message_id=text(row["message_id"]),
        channel=text(row["channel"]),
        kind=text(row["kind"]),
        title=text(row["title"]),
        failures=integer(row["failures"]),
        error=text_or_none(row["error"]),
        **times,
    )
