"""A notification: its fields, as JSON for programs and as text for people."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

from flowherd.notify.kinds import Kind
from flowherd.notify.rules import Subject
from flowherd.shown_text import one_line, storable
from flowherd.web.terminal_text import plain_text

#: Maximum length of a title and of a sentence, characters.
MOST_TITLE, MOST_SENTENCE = 200, 2_000
#: The last lines of a log that a notification has, and the maximum length of one, characters.
LAST_LINES, MOST_LINE = 12, 500
#: Kind of a notification by which a channel is tried; it is delivered once or not at all.
TEST = "test"
#: Most notifications that are sent as one.
MOST_TOGETHER = 50


@dataclass(frozen=True, kw_only=True)
class Notification:
    """One notification. Fields that do not apply are None or empty."""

    #: UUID; the same if it is delivered again.
    id: str
    #: A word of Kind.
    kind: str
    #: When it was noticed, seconds since the epoch.
    at: float
    #: What it is, in one line.
    title: str
    #: What is known of it: the cause of a failure, the reason for waiting.
    sentence: str = ""
    #: How certain the cause is, "proven" or "probable", its word (flowherd_runner.contract.reasons), and on what it
    #: rests.
    grade: str | None = None
    reason: str | None = None
    evidence: str | None = None
    #: With "recovered": what is over.
    over: str | None = None
    #: Since when it is so, seconds since the epoch; of something that is over, since when it was.
    since: float | None = None
    #: How many times in a row it happened, for failures.
    count: int | None = None
    flow: str | None = None
    project: str | None = None
    run_id: str | None = None
    run_name: str | None = None
    #: State of the run.
    state: str | None = None
    agent: str | None = None
    labels: Sequence[str] = ()
    #: The end of the run's log, without colours.
    last_lines: Sequence[str] = ()
    #: Address of the page that shows more.
    link: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the fields as channels get them; times are ISO 8601."""
        return {
            **asdict(self),
            "at": _iso(self.at),
            "since": None if self.since is None else _iso(self.since),
            "labels": list(self.labels),
            "last_lines": list(self.last_lines),
            "text": self.text(),
        }

    def text(self) -> str:
        """Return the text for people, without the title."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        if self.sentence:
            yield self.sentence
        if self.evidence and self.evidence not in self.sentence:
            yield f"Cause {self.grade}: {self.evidence}" if self.grade else self.evidence
        if self.run_id:
            yield f"Run {self.run_name} ({self.run_id})" + (f" on agent {self.agent}" if self.agent else "")
        if self.last_lines:
            yield from ("", "The end of its log:", *(f"  {line}" for line in self.last_lines))
        if self.link:
            yield from ("", self.link)


def notification_of(kind: Kind, about: Subject, title: str, *, over: Kind | None = None, **fields: Any) -> Notification:
    """Return a new notification, noticed now. With the kind "recovered", `over` is what is over."""
    return Notification(
        id=str(uuid4()),
        kind=kind.value,
        at=time.time(),
        title=title,
        over=None if over is None else over.value,
        flow=about.flow,
        project=about.project,
        labels=about.labels,
        **fields,
    )


def test_notification(where: str) -> Notification:
    """Return a notification by which a channel is tried; `where` says who sends it."""
    return Notification(
        id=str(uuid4()),
        kind=TEST,
        at=time.time(),
        title=f"Test of flowherd's notifications from {where}",
        sentence="If you read this, the channel works.",
    )


def as_stored(notification: Notification) -> dict[str, Any]:
    """Return a notification as an outbox keeps it."""
    return {**asdict(notification), "labels": list(notification.labels), "last_lines": list(notification.last_lines)}


def read_stored(value: Mapping[str, Any]) -> Notification:
    """Return the notification that an outbox has kept; fields of other releases are left out."""
    known = Notification.__dataclass_fields__
    return Notification(**{name: one for name, one in value.items() if name in known})


def together(notifications: Sequence[Notification]) -> dict[str, Any]:
    """Return several notifications as one message, in the form of `as_json`."""
    first = notifications[0]
    # The same id if the same ones are sent again.
    key = " ".join(each.id for each in notifications)
    return {
        **Notification(
            id=str(uuid5(NAMESPACE_URL, key)),
            kind="several",
            at=notifications[-1].at,
            title=f"{len(notifications)} notifications, the first: {first.title}"[:MOST_TITLE],
            sentence="\n".join(f"{_clock(each.at)} {each.title}" for each in notifications),
        ).as_json(),
        "notifications": [each.as_json() for each in notifications],
    }


def title(text: str) -> str:
    """Return a text as a title: one line, and not too long."""
    shown = one_line(storable(text))
    return shown if len(shown) <= MOST_TITLE else shown[: MOST_TITLE - 1] + "…"


def sentence(text: str) -> str:
    """Return a text as a sentence: one line, and not too long."""
    shown = one_line(storable(" ".join(text.split())))
    return shown if len(shown) <= MOST_SENTENCE else shown[: MOST_SENTENCE - 1] + "…"


def log_line(text: str) -> str:
    """Return a line of a log as a notification has it: what a terminal would show of it, without colours."""
    shown = one_line(storable(plain_text(text)))
    return shown if len(shown) <= MOST_LINE else shown[: MOST_LINE - 1] + "…"


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds")


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).strftime("%H:%M UTC")
