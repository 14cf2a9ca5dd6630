"""Delivers what waits in an outbox: one thread for each channel, so that a slow one holds up no other.

Each notification is delivered at least once: it leaves the outbox after the channel has taken it, so one whose
delivery was under way when the process was killed is delivered again, with the same id.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from flowherd.notify.channels import Channel, DeliveryFailed
from flowherd.notify.message import MOST_TOGETHER, TEST, Notification, together
from flowherd.notify.pace import GIVE_UP_AFTER_S, LONGEST_CHANNEL_PAUSE_S, LONGEST_PAUSE_S, Rate, pause_s
from flowherd.recurring_error import RecurringError

if TYPE_CHECKING:
    from loguru import Logger

#: Pause after the outbox could not be read or written, seconds.
_OUTBOX_PAUSE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A notification that waits for its delivery to one channel."""

    #: Names the entry in its outbox.
    key: int | str
    notification: Notification
    #: Number of deliveries that failed.
    failures: int = 0
    #: When to try it next, seconds since the epoch; 0 for now.
    next_try: float = 0.0


class Outbox(Protocol):
    """Where notifications wait, durably. Used by several threads."""

    def waiting(self, channel: str) -> Sequence[Waiting]:
        """Return what waits for a channel, oldest first; not more than are sent together, but one more if there are."""

    def sent_since(self, channel: str, since: float) -> Sequence[float]:
        """Return when messages were delivered, in the order of time, seconds since the epoch."""

    def delivered(self, channel: str, entries: Sequence[Waiting], at: float) -> None:
        """Note that one message with these was delivered."""

    def failed(self, channel: str, entries: Sequence[Waiting], error: str, next_try: float | None) -> None:
        """Note that a delivery failed, and when to try again; None for never."""


@dataclass(frozen=True)
class Target:
    """A channel with its name and its rate."""

    name: str
    channel: Channel
    rate: Rate


class Delivery:
    """The threads that deliver."""

    def __init__(self, outbox: Outbox, targets: Sequence[Target], log: Logger) -> None:
        self._couriers: Mapping[str, _Courier] = {target.name: _Courier(outbox, target, log) for target in targets}

    def start(self) -> None:
        """Start the threads. What waits already is delivered."""
        for courier in self._couriers.values():
            courier.start()

    def wake(self) -> None:
        """Say that something new waits. For any thread."""
        for courier in self._couriers.values():
            courier.wake()

    def stop(self, timeout_s: float) -> None:
        """Stop. A delivery that is under way has this long to end, or the next start repeats it."""
        for courier in self._couriers.values():
            courier.request_stop()
        deadline_s = time.monotonic() + timeout_s
        for courier in filter(threading.Thread.is_alive, self._couriers.values()):
            courier.join(max(0.0, deadline_s - time.monotonic()))


class _Courier(threading.Thread):
    def __init__(self, outbox: Outbox, target: Target, log: Logger) -> None:
        super().__init__(name=f"notify {target.name}", daemon=True)
        self._outbox = outbox
        self._target = target
        self._woken = threading.Event()
        self._stopping = False
        self._failures = 0
        self._not_before_s = 0.0
        self._delivering = RecurringError(f"deliver notifications to {target.name}", log)
        self._keeping = RecurringError(f"read and write the notifications for {target.name}", log)

    def wake(self) -> None:
        self._woken.set()

    def request_stop(self) -> None:
        self._stopping = True
        self._woken.set()

    def run(self) -> None:
        pause: float | None = 0.0
        while not self._stopping:
            self._wait(pause)
            try:
                pause = None if self._stopping else self._look()
            except Exception as error:  # the disk is full, for example; whatever it is, the thread goes on
                self._keeping.failed(error)
                pause = _OUTBOX_PAUSE_S
            else:
                self._keeping.recovered()

    def _wait(self, pause: float | None) -> None:
        """Wait for something new or the pause; after a failure only for the pause."""
        self._woken.wait(pause)
        self._woken.clear()
        while not self._stopping and (left_s := self._not_before_s - time.monotonic()) > 0:
            self._woken.wait(left_s)
            self._woken.clear()

    def _look(self) -> float | None:
        """Deliver one message if it is time to. Returns how long to wait, seconds; None for until something is new."""
        found, now = self._outbox.waiting(self._target.name), time.time()
        if not found:
            return None
        # More than the longest pause ahead: the clock was set back meanwhile.
        due = [each for each in found if each.next_try <= now or each.next_try > now + LONGEST_PAUSE_S]
        if not due:
            return min(each.next_try for each in found) - now
        rate = self._target.rate
        sent = self._outbox.sent_since(self._target.name, now - rate.window_s)
        wait_s = rate.wait_s(sent, now)
        if wait_s > 0:
            return wait_s
        # With the last one that may be sent now goes everything that waits.
        self._deliver(due[:1] if rate.left(sent, now) >= 2 else due[:MOST_TOGETHER])
        return 0.0

    def _deliver(self, entries: Sequence[Waiting]) -> None:
        notifications = [each.notification for each in entries]
        message = notifications[0].as_json() if len(entries) == 1 else together(notifications)
        try:
            self._target.channel.deliver(message)
        except Exception as error:
            # Whatever it is: the other notifications of this channel must not be lost by it.
            self._delivering.failed(error)
            self._failures += 1
            self._not_before_s = time.monotonic() + pause_s(self._failures, LONGEST_CHANNEL_PAUSE_S)
            self._note_failure(entries, str(error) or type(error).__name__)
        else:
            self._delivering.recovered()
            self._failures = 0
            self._outbox.delivered(self._target.name, entries, time.time())

    def _note_failure(self, entries: Sequence[Waiting], error: str) -> None:
        now = time.time()
        for entry in entries:
            is_over = entry.notification.kind == TEST or now - entry.notification.at > GIVE_UP_AFTER_S
            next_try = None if is_over else now + pause_s(entry.failures + 1)
            self._outbox.failed(self._target.name, [entry], error, next_try)


def deliver_now(target: Target, notification: Notification) -> str:
    """Deliver a notification at once, past an outbox: for a test. Returns why it failed; empty if it was taken."""
    try:
        target.channel.deliver(notification.as_json())
    except DeliveryFailed as error:
        return str(error)
    return ""
