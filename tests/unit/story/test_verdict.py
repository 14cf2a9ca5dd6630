"""The sentence above a run: how it is, or how it ended, and what that rests on."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from flowherd.story.account import Account, RunEvent
from flowherd.story.live import RunFigures
from flowherd.story.records import NoticeView, RunRecord
from flowherd.story.tones import Tone
from flowherd.story.verdict import EndFacts, LiveFacts, end_facts, live_facts, verdict

NOW = datetime(2030, 1, 31, 12, tzinfo=timezone.utc)


def run(state: str, message: str | None = None, **more: Any) -> RunRecord:
    facts: dict[str, Any] = {
        "id": "r", "name": "r", "flow": "f", "state": state, "message": message, "labels": (), "agent_id": None,
        "created": NOW, "scheduled_start_time": NOW, "start_time": NOW - timedelta(minutes=134), "end_time": None,
    }  # fmt: skip
    return RunRecord(**{**facts, **more})


def test_a_bad_end_is_its_message_with_grade_evidence_and_what_was_left() -> None:
    end = EndFacts(reason="memory_limit", grade="proven", evidence="SIGTERM from pid 1211", leftovers=["zstd (30467)"])
    found = verdict(run("Failed", "Memory limit exceeded: 2.3 GiB."), now=NOW, end=end)
    assert (found.sentence, found.tone, found.grade) == ("Memory limit exceeded: 2.3 GiB.", Tone.BAD, "proven")
    assert found.details == (
        "SIGTERM from pid 1211.",
        "1 process was left running and was ended: zstd (30467).",
    )


def test_what_the_message_says_is_not_said_again_as_evidence() -> None:
    message = "The flow process crashed."
    notice = NoticeView(at=NOW, message=f"Failed: {message} Cause proven: killed by SIGSEGV (11). CPU 1 s.")
    ended = run("Failed", message)
    found = verdict(ended, now=NOW, end=end_facts(ended, "signal", "proven", None, [notice]))
    assert found.details == ("Killed by SIGSEGV (11). CPU 1 s.",)
    assert verdict(ended, now=NOW, end=EndFacts(evidence=message)).details == ()


def test_of_a_message_with_several_lines_the_first_is_the_sentence() -> None:
    found = verdict(run("Failed", "ValueError: no\n\nsecond\nthird"), now=NOW)
    assert (found.sentence, found.details) == ("ValueError: no", ("second\nthird",))


def test_a_good_end_has_no_grade_and_an_end_without_a_message_its_state() -> None:
    found = verdict(run("Success"), now=NOW, end=EndFacts(grade="proven", reason="exited"))
    assert (found.sentence, found.tone, found.grade) == ("Success.", Tone.OK, "")


def test_a_bad_end_of_an_isolated_run_names_its_level_unless_something_else_ended_it() -> None:
    line = "Kept apart: sealed, without a network. Not in force: x (y). Tried before the start: z."
    account = Account(events=(RunEvent(at_s=1.0, what="isolation", detail=line),))
    failed, well = run("Failed", "OSError: Read-only file system"), run("Success")

    def details(of: RunRecord, reason: str, known: Account = account) -> tuple[str, ...]:
        return verdict(of, now=NOW, end=end_facts(of, reason, "proven", known)).details

    (sentence,) = details(failed, "exception")
    assert sentence.startswith("Kept apart: sealed, without a network. If it could not write")
    assert details(failed, "timeout") == details(well, "exited") == details(failed, "exited", Account()) == ()
    weaker = RunEvent(at_s=1.0, what="isolation", detail="Not kept apart, although private was asked for.")
    (sentence,) = details(failed, "exited", Account(events=(weaker,)))  # some of it is in force
    assert sentence.startswith("Not kept apart, although private was asked for. If it could not write")


def test_many_leftovers_are_counted_and_survivors_named() -> None:
    end = EndFacts(leftovers=[f"p ({n})" for n in range(9)], leftovers_count=80, survivors=["sudo (4)"])
    left, survivors = verdict(run("Cancelled", "Cancelled."), now=NOW, end=end).details
    assert left.startswith("80 processes were left running and ended: p (0), ") and left.endswith("and 75 more.")
    assert survivors == "Could not be ended and may still run: sudo (4)."


def test_a_running_run_is_measured_by_what_is_usual_and_by_its_limit() -> None:
    live = LiveFacts(
        agent="gpu-02", usual_s=9600, last_line_at=NOW - timedelta(seconds=4),
        memory_bytes=93 * 2**30, memory_limit_bytes=100 * 2**30,
    )  # fmt: skip
    found = verdict(run("Running"), now=NOW, live=live)
    assert found.sentence == (
        "Running for 2 h 14 m; it usually takes 2 h 40 m. Memory is at 93 % of its limit of 100 GiB."
    )
    assert found.details == ("Agent gpu-02 has it.", "Its last line came 4.0 s ago.")
    assert found.tone is Tone.WARN
    assert verdict(run("Running"), now=NOW).tone is Tone.RUN


def test_a_stuck_run_says_so_first() -> None:
    found = verdict(run("Running"), now=NOW, live=LiveFacts(stuck="No output and no CPU for 42 m"))
    assert found.sentence == "No output and no CPU for 42 m. Running for 2 h 14 m."


def test_a_waiting_run_says_what_it_waits_for() -> None:
    found = verdict(run("Scheduled"), now=NOW, waits=["No agent is running.", "More."])
    assert (found.sentence, found.details, found.tone) == ("No agent is running.", ("More.",), Tone.WAIT)
    assert verdict(run("Paused", "Somebody paused it."), now=NOW).sentence == "Somebody paused it."
    assert verdict(run("Scheduled"), now=NOW).sentence == "It is Scheduled."


def test_the_evidence_comes_from_the_account_if_there_is_one() -> None:
    notice = NoticeView(at=NOW, message="Failed: x")
    facts = end_facts(
        run("Failed", "x"), "signal", "proven", Account(evidence="wait status", leftovers=("a (1)",)), [notice]
    )
    assert (facts.evidence, facts.leftovers) == ("wait status", ("a (1)",))


def test_an_account_that_has_only_figures_does_not_hide_what_the_log_says() -> None:
    notice = NoticeView(at=NOW, message="Failed: x. Cause proven: killed.")
    assert end_facts(run("Failed", "x"), "signal", "proven", Account(exit_code=3), [notice]).evidence == notice.message


def test_the_facts_of_a_running_run_are_its_newest_figures() -> None:
    figures = RunFigures(id="r", at=0.0, memory_bytes=5, memory_limit_bytes=7, last_line_at=NOW.timestamp())
    found = live_facts(run("Running", figures=figures, stuck="No output."), agent="a", usual_s=3.0)
    assert found == LiveFacts(
        agent="a", usual_s=3.0, stuck="No output.", last_line_at=NOW, memory_bytes=5, memory_limit_bytes=7
    )
    damaged = RunFigures(id="r", at=0.0, last_line_at=1e18)
    assert live_facts(run("Running", figures=damaged)).last_line_at is None
    assert live_facts(run("Running")) == LiveFacts()
