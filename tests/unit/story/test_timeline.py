"""What happened to a run: every entry for programs, and each thing once for people."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from flowherd.story.account import Account, RunEvent
from flowherd.story.records import NoticeView, RunRecord, StateView
from flowherd.story.timeline import events_of, story, timeline

NOON = datetime(2030, 1, 31, 12, tzinfo=timezone.utc)


def at(second: int) -> datetime:
    return NOON + timedelta(seconds=second)


def state(word: str, second: int, message: str | None = None, reason: str | None = None) -> StateView:
    return StateView(version=second, at=at(second), state=word, message=message, pid=None, reason=reason, grade=None)


def test_each_attempt_has_its_own_agent_and_of_its_claims_only_the_last_is_known() -> None:
    ended = state("Retrying", 3, "It broke.", "exited")
    states = [state("Submitted", 1), state("Submitted", 2), ended, state("Submitted", 5)]
    entries = timeline(None, states, [], [], "second", {at(3): "first"})
    assert [entry.detail for entry in entries] == [
        "Submitted",
        "Submitted; by agent first",
        "Retrying: It broke; reason exited",
        "Submitted; by agent second",
    ]


def run(**more: object) -> RunRecord:
    facts: dict[str, object] = {
        "id": "r", "name": "r", "flow": "f", "state": "Failed", "message": None, "labels": ("x",), "agent_id": None,
        "created": at(0), "scheduled_start_time": at(10), "start_time": at(12), "end_time": at(30),
    }  # fmt: skip
    return RunRecord(**{**facts, **more})  # type: ignore[arg-type]


def ended() -> StateView:
    message = "Memory limit exceeded: 2.3 GiB."
    return StateView(
        version=4, at=at(30), state="Failed", message=message, pid=7, reason="memory_limit", grade="proven",
        stored=at(30) + timedelta(milliseconds=9),
    )  # fmt: skip


def host_events() -> list[RunEvent]:
    seconds = {"started": 12, "adopted": 20, "asked to end": 28, "killed": 29, "process ended": 30}
    start = NOON.timestamp()
    return [RunEvent(at_s=start + second, what=what, detail=f"of {what}") for what, second in seconds.items()]


def test_a_story_has_each_thing_once_and_the_end_with_its_grade() -> None:
    states = [state("Scheduled", 0, "Scheduled"), state("Submitted", 11), state("Running", 12), ended()]
    notices = [
        NoticeView(at=at(11), message="Submitted for execution: PID: 7"),
        NoticeView(at=at(25), message="Memory is above 90 % of its limit"),
        NoticeView(at=at(30), message="Failed: Memory limit exceeded: 2.3 GiB. Cause proven: killed."),
    ]
    events = events_of(Account(events=tuple(host_events())))
    told = story(run(), states, notices, events, "barn")
    assert [line.what for line in told] == [
        "created", "due", "claimed", "started", "adopted", "logged", "asked to end", "killed", "ended",
    ]  # fmt: skip
    lines = {line.what: line for line in told}
    assert (lines["claimed"].rest, lines["claimed"].detail) == ("by agent barn", "1.0 s after it was due")
    assert lines["started"].detail == "of started"
    assert (lines["ended"].rest, lines["ended"].grade) == (
        "as Failed, known to the server 9 ms after its end",
        "proven",
    )
    assert lines["ended"].detail == "memory_limit; of process ended"
    assert {str(line.tone) for line in told if line.what in ("asked to end", "killed", "ended")} == {"bad"}


def test_without_a_host_that_reports_the_story_comes_from_the_states_alone() -> None:
    states = [
        state("Scheduled", 0),
        state("Submitted", 11),
        state("Running", 12),
        state("Success", 30, "It went well."),
    ]
    told = story(run(state="Success"), states)
    assert [line.what for line in told] == ["created", "due", "claimed", "started", "ended"]
    assert (told[-1].detail, told[-1].grade) == ("It went well.", "")


def test_what_the_host_alone_knows_of_a_start_and_an_end_is_not_left_out() -> None:
    told = story(None, [], [], events_of(Account(events=tuple(host_events()))))
    assert [line.what for line in told] == [event.what for event in host_events()]


def test_waiting_and_trying_again_are_told_with_their_message() -> None:
    states = [state("Scheduled", 0), state("Queued", 10, "Waits for room."), state("Submitted", 11)]
    assert [(line.what, line.rest) for line in story(run(), states)][2] == ("queued", "Waits for room.")
