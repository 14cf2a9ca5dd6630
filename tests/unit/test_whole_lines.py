"""What a backend that takes only whole lines gets of text so far."""

from __future__ import annotations

from datetime import datetime, timezone

from flowherd.host.delivery.whole_lines import WholeLines
from flowherd.values import LogLine


def line(message: str, kind: str = "line", stream: str = "stderr", run: str = "a") -> LogLine:
    return LogLine(
        flow_run_id=run,
        at=datetime.now(timezone.utc),
        stream=stream,
        level=20,
        logger=stream,
        message=message,
        so_far=kind != "line",
        standing=kind == "standing",
    )


def test_text_so_far_is_left_out_until_it_has_stood_for_long() -> None:
    given = WholeLines().of([line("1", "now"), line("2", "standing"), line("3", "now"), line("4")])
    assert [(one.message, one.so_far, one.standing) for one in given] == [("2", False, False), ("4", False, False)]


def test_a_finished_line_that_says_no_more_than_what_was_given_is_left_out() -> None:
    lines = WholeLines()
    assert [one.message for one in lines.of([line("Password: ", "standing")])] == ["Password: "]
    lines.commit()
    others = [line("Password: ", stream="stdout"), line("Password: ", run="b")]
    # The same words once more are a line of their own.
    again = line("Password: ")
    given = lines.of([line("Password: "), *others, again])
    assert given[:2] == others
    assert given[2:] == [again]


def test_a_request_that_failed_is_made_again_as_it_was() -> None:
    lines = WholeLines()
    batch = [line("1", "standing"), line("1")]
    assert [one.message for one in lines.of(batch)] == [one.message for one in lines.of(batch)] == ["1"]
    lines.commit()
    assert [one.message for one in lines.of([line("1")])] == ["1"]


def test_what_was_given_of_a_run_can_be_forgotten() -> None:
    lines = WholeLines()
    lines.of([line("1", "standing")])
    lines.commit()
    lines.forget("a")
    assert [one.message for one in lines.of([line("1")])] == ["1"]
