"""From the end of a run to a notification, the same at the server and at an agent. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowherd.notify.changes import Change, Condition, change_by_end
from flowherd.notify.kinds import Kind
from flowherd.notify.message import sentence
from flowherd.notify.wording import end_title, recovery_title
from flowherd_runner.contract import reasons

_LOST = frozenset({reasons.REASON_LOST, reasons.REASON_REBOOT})


@dataclass(frozen=True, kw_only=True)
class End:
    """How a run has ended, as far as that matters here."""

    flow: str
    #: The state, and whether it is a bad one.
    state: str
    is_bad: bool
    message: str
    #: One of flowherd_runner.contract.reasons, and how certain it is.
    reason: str | None = None
    grade: str | None = None
    #: Whether the server has found that nobody reports the run any more.
    is_abandoned: bool = False
    #: Seconds since the epoch.
    at: float


@dataclass(frozen=True, kw_only=True)
class EndNotice:
    """What is to be said about an end, and what is not well from now on."""

    kind: Kind
    title: str
    #: What is over, with "recovered".
    over: Kind | None = None
    #: Whether it is a failure like the one before.
    again: bool = False
    fields: Mapping[str, Any]
    #: None if all is well.
    condition: Condition | None


def notice_of_end(end: End, key: str, known: Condition | None) -> EndNotice | None:
    """Return what an end changes for its flow, whose condition has this key; None if nothing."""
    kind = Kind.LOST if end.is_abandoned or end.reason in _LOST else Kind.FAILED
    mark = f"{kind.value} {end.reason or end.state}"
    change = change_by_end(known, is_bad=end.is_bad, mark=mark)
    if change is None:
        return None
    if change is Change.OVER and known is not None:
        return EndNotice(
            kind=Kind.RECOVERED,
            title=recovery_title(end.flow, known.count),
            over=known.kind,
            fields={"sentence": sentence(end.message), "count": known.count, "since": known.since},
            condition=None,
        )
    count = 1 if known is None else known.count + 1
    since = end.at if known is None else known.since
    return EndNotice(
        kind=kind,
        title=end_title(end.flow, kind, change, count, end.message),
        again=change is Change.AGAIN,
        fields={
            "sentence": sentence(end.message),
            "grade": end.grade,
            "reason": end.reason,
            "count": count,
            "since": since,
        },
        condition=Condition(key=key, kind=kind, mark=mark, since=since, count=count),
    )
