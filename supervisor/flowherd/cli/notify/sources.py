"""Where channels, rules and deliveries are known: at flowherd's server, or beside a Prefect 3 pool on this host."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol

from flowherd.cli.exit_codes import NOT_FOUND
from flowherd.cli.failures import CommandError
from flowherd.client.notifications import ChannelView, NotificationView, RuleView

if TYPE_CHECKING:
    from flowherd.client.notifications import Notifications
    from flowherd.config import LoadedSettings

#: Pause between two looks at what became of a test, seconds.
_LOOK_S = 0.1
#: Number of notifications that are shown.
_NEWEST = 20


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What became of a test of one channel."""

    channel: str
    delivered: bool
    #: Why not; empty if it was.
    error: str = ""


class Source(Protocol):
    """Knows the notifications of one server or agent."""

    def channels(self) -> Sequence[ChannelView]:
        """Return the channels."""

    def rules(self) -> Sequence[RuleView]:
        """Return the rules."""

    def newest(self) -> Sequence[NotificationView]:
        """Return the newest notifications, as far as they are kept, the newest first."""

    def test(self, channels: Sequence[str], timeout_s: float) -> Sequence[Tried]:
        """Try these channels, or all if none are named."""


def open_source(api: str | None) -> Source:
    """Return what the settings name. Raises CommandError if it sends no notifications, or if no server is known."""
    from flowherd.cli.open_client import open_client
    from flowherd.cli.options import settings_from

    if not api:
        loaded = settings_from()
        if loaded.settings.backend_name != "graphql":
            return ThisHost(loaded)
    client, _ = open_client(api)
    if not client.notifications.are_sent():
        raise CommandError(
            f"{client.address} sends no notifications: only flowherd's own server does, from release 0.2 on, and "
            "beside a Prefect 3 pool the agent"
        )
    return AtServer(client.notifications)


class AtServer:
    """The notifications of flowherd's server."""

    def __init__(self, notifications: Notifications) -> None:
        self._notifications = notifications
        self.channels = notifications.channels
        self.rules = notifications.rules

    def newest(self) -> Sequence[NotificationView]:
        """Return the newest ones."""
        return self._notifications.newest(_NEWEST)

    def test(self, channels: Sequence[str], timeout_s: float) -> Sequence[Tried]:
        """Have the server deliver a test, and wait for what becomes of it."""
        message_id = self._notifications.test(channels)
        deadline_s = time.monotonic() + timeout_s
        while True:
            found = self._notifications.of_message(message_id)
            if all(each.state in ("delivered", "given up") for each in found) or time.monotonic() > deadline_s:
                return [self._tried(each, timeout_s) for each in found]
            time.sleep(_LOOK_S)

    def _tried(self, view: NotificationView, timeout_s: float) -> Tried:
        if view.state == "delivered":
            return Tried(channel=view.channel, delivered=True)
        if view.error:
            return Tried(channel=view.channel, delivered=False, error=view.error)
        failing = [each for each in self._notifications.undelivered(_NEWEST) if each.channel == view.channel]
        others = f"; the last delivery there failed: {failing[-1].error}" if failing else ""
        return Tried(channel=view.channel, delivered=False, error=f"it waited for more than {timeout_s:g} s{others}")


class ThisHost:
    """The notifications of the agent on this host, which serves a Prefect 3 pool."""

    def __init__(self, loaded: LoadedSettings) -> None:
        self._loaded = loaded
        self._notify = loaded.settings.notify
        self._rules = self._notify.checked_rules()

    def channels(self) -> Sequence[ChannelView]:
        """Return the channels of the settings."""
        return [
            ChannelView(name=target.name, kind=target.channel.kind, place=target.channel.shown)
            for target in self._notify.targets()
        ]

    def rules(self) -> Sequence[RuleView]:
        """Return the rules of the settings."""
        return [RuleView(project=None, rule=rule.as_json()) for rule in self._rules]

    def newest(self) -> Sequence[NotificationView]:
        """Return what waits in the agent's outbox."""
        from flowherd.notify.file_outbox import DIRECTORY, read_entries

        found = [_view(vars(kept)) for kept in read_entries(self._loaded.paths.state_dir / DIRECTORY)]
        return found[::-1][:_NEWEST]

    def test(self, channels: Sequence[str], timeout_s: float) -> Sequence[Tried]:
        """Deliver a test from this process."""
        from flowherd.notify.delivery import deliver_now
        from flowherd.notify.message import test_notification

        targets = {target.name: target for target in self._notify.targets()}
        for name in channels:
            if name not in targets:
                raise CommandError(f"there is no channel {name!r}; there are {', '.join(targets) or 'none'}", NOT_FOUND)
        notification = test_notification(f"an agent's host, {socket.gethostname()}")
        errors = {name: deliver_now(targets[name], notification) for name in channels or targets}
        return [Tried(channel=name, delivered=not error, error=error) for name, error in errors.items()]


def _view(kept: Mapping[str, Any]) -> NotificationView:
    waiting = kept["waiting"]
    next_try = datetime.fromtimestamp(waiting.next_try, timezone.utc) if waiting.next_try else None
    created = datetime.fromtimestamp(waiting.notification.at, timezone.utc)
    return NotificationView(
        message_id=waiting.notification.id,
        channel=kept["channel"],
        kind=waiting.notification.kind,
        title=waiting.notification.title,
        created=created,
        failures=waiting.failures,
        error=kept["error"] or None,
        next_try=next_try,
        delivered=None,
        given_up=created if kept["is_over"] else None,
    )
