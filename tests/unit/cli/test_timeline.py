"""Which agent `flowherd explain` names for each claim of a run."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from flowherd.cli.explain.explanation import timeline
from flowherd.client.history import StateView

NOON = datetime(2030, 1, 31, 12, tzinfo=timezone.utc)


def at(second: int) -> datetime:
    return NOON + timedelta(seconds=second)


def state(word: str, second: int, message: str | None = None, reason: str | None = None) -> StateView:
    return StateView(version=second, at=at(second), state=word, message=message, pid=None, reason=reason, grade=None)


def test_each_attempt_has_its_own_agent_and_of_its_claims_only_the_last_is_known() -> None:
    ended = state("Retrying", 3, "It broke.", "exited")
    states = [state("Submitted", 1), state("Submitted", 2), ended, state("Submitted", 5)]
    entries = timeline(None, states, [], None, "second", {at(3): "first"})
    assert [entry.detail for entry in entries] == [
        "Submitted",
        "Submitted; by agent first",
        "Retrying: It broke; reason exited",
        "Submitted; by agent second",
    ]
