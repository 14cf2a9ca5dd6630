"""What the server keeps of agents' reports about runs that go on."""

from __future__ import annotations

import time
from typing import Any

import pytest

from flowherd.story.live import RunFigures, read_run_figures
from flowherd_server.runs import live_board
from flowherd_server.runs.live_board import HISTORY_S, MOST_SAMPLES, LiveBoard

AGENT = "a0000000-0000-0000-0000-000000000000"
RUN, OTHER = "b0000000-0000-0000-0000-000000000000", "c0000000-0000-0000-0000-000000000000"


def report(*runs: RunFigures, instance: str = "one") -> dict[str, Any]:
    return {"instance": instance, "run_figures": [run.as_json() for run in runs]}


def run(run_id: str = RUN, at: float = 1000.0, **figures: Any) -> RunFigures:
    return RunFigures(id=run_id, at=at, **figures)


def test_the_newest_figures_of_a_run_are_kept_until_it_ends() -> None:
    board = LiveBoard()
    board.note(AGENT, report(run(memory_bytes=5), run(OTHER)))
    board.note(AGENT, report(run(at=1002.0, memory_bytes=6), run(OTHER)))
    found = board.figures(RUN)
    assert found is not None and (found.at, found.memory_bytes) == (1002.0, 6)
    board.forget([RUN])
    assert board.figures(RUN) is None
    assert board.figures(OTHER) is not None


def test_a_run_that_its_agent_does_not_name_any_more_is_forgotten_and_one_of_another_agent_is_not() -> None:
    board = LiveBoard()
    board.note(AGENT, report(run()))
    board.note(AGENT, report(run(OTHER), instance="two"))
    board.note(AGENT, report())
    assert board.figures(RUN) is None
    assert board.figures(OTHER) is not None
    assert {agent.report.instance for agent in board.agents(AGENT)} == {"one", "two"}


def test_a_report_without_runs_says_nothing_about_them() -> None:
    board = LiveBoard()
    board.note(AGENT, report(run()))
    board.note(AGENT, {"instance": "one"})
    assert board.figures(RUN) is not None


def test_figures_of_an_agent_that_is_silent_are_not_shown_as_present(monkeypatch: pytest.MonkeyPatch) -> None:
    board = LiveBoard()
    board.note(AGENT, report(run()))
    late_s = time.monotonic() + live_board.KEEP_S + 1
    monkeypatch.setattr(time, "monotonic", lambda: late_s)
    assert board.figures(RUN) is None


def test_the_history_is_thinned_and_no_longer_than_an_hour() -> None:
    board = LiveBoard()
    for n in range(3000):
        board.note(AGENT, report(run(at=2.0 * n, memory_bytes=n)))
    samples = board.history(RUN)
    assert 100 < len(samples) <= MOST_SAMPLES
    assert samples[-1].at > 2 * 2999 - 120
    assert samples[0].at >= 2 * 2999 - HISTORY_S - 120
    assert [sample.at for sample in samples] == sorted(sample.at for sample in samples)


def test_agents_are_told_once_that_somebody_watches_and_again_for_another_run() -> None:
    told: list[list[str]] = []
    board = LiveBoard(lambda: told.append(board.looked_at()))
    assert not board.is_watched
    board.watch()
    board.watch()
    board.watch(RUN)
    board.watch(RUN)
    assert told == [[], [RUN]]
    assert board.is_watched


def test_a_question_waits_for_the_reports_of_agents_that_are_connected_and_for_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    board, asked = LiveBoard(lambda: answer()), list[str]()
    live = {**report(run()), "outcomes": {}}

    def answer() -> None:
        asked.append("agent")
        board.note(AGENT, {**live, "run_figures": [run(at=2000.0).as_json()]})

    board.note(AGENT, live)
    now_s = time.time() + 60
    monkeypatch.setattr(time, "time", lambda: now_s)
    board.ask_for_figures(20.0, lambda agent_id: agent_id == AGENT)
    assert asked == ["agent"] and board.figures(RUN) == run(at=2000.0)
    silent = LiveBoard()
    silent.note(AGENT, live)
    now_s += 60
    silent.ask_for_figures(3600.0, lambda _agent_id: False)
    assert silent.is_watched


@pytest.mark.parametrize(
    "sent",
    [
        "nonsense",
        [1, None, "x", {}, {"id": 5, "at": 1}, {"id": "x", "at": "y"}, {"id": "x", "at": 1e400}],
        [{"id": "x", "at": 1, "memory_bytes": "much", "tree": [5, {"pid": "x"}], "cpu_time_s": True}],
    ],
)
def test_what_cannot_be_read_is_left_out(sent: Any) -> None:
    found = read_run_figures(sent)
    assert found in ([], [RunFigures(id="x", at=1)])
    LiveBoard().note(AGENT, {"run_figures": sent})


def test_figures_are_the_same_after_they_were_sent() -> None:
    sent = {"id": RUN, "at": 5.0, "memory_bytes": 7, "tree": [{"pid": 3, "command": "sleep", "parent": 2}]}
    found = read_run_figures([sent])
    assert read_run_figures([found[0].as_json()]) == found
    assert found[0].tree[0].command == "sleep"
