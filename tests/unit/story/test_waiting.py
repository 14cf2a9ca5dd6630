"""What `flowherd explain` prints about a run that has not ended: what it waits for, or which agent has it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from flowherd.story.agent_report import AgentReport
from flowherd.story.records import AgentView, RunRecord, WaitingTaskView
from flowherd.story.waiting import run_waits, tasks_wait

NOW = datetime(2030, 1, 31, 12, tzinfo=timezone.utc)


def run(state: str = "Scheduled", *, due_s: float = -1.0, labels: tuple[str, ...] = ("x",), **more: Any) -> RunRecord:
    due = NOW + timedelta(seconds=due_s)
    facts: dict[str, Any] = {
        "id": "r", "name": "r", "flow": "f", "state": state, "message": None, "labels": labels,
        "agent_id": None, "created": NOW, "scheduled_start_time": due,
        "start_time": None, "end_time": None,
    }  # fmt: skip
    return RunRecord(**{**facts, **more})


def agent(name: str = "a", labels: tuple[str, ...] = ("x",), *, alive: bool = True) -> AgentView:
    return AgentView(id=name, name=name, labels=labels, last_queried=None, connected=alive)


def sentences(run: RunRecord, *agents: AgentView, **local: dict[str, Any]) -> str:
    return " ".join(run_waits(run, agents, local, NOW))


def test_a_finished_run_waits_for_nothing() -> None:
    assert run_waits(run("Success"), [agent()], {}, NOW) == []


def test_waiting_tasks_are_named_with_what_they_wait_for() -> None:
    tasks = [
        WaitingTaskView(task="load", state="Retrying", due=NOW + timedelta(minutes=30)),
        WaitingTaskView(task="ask", state="Paused", due=None),
        WaitingTaskView(task="asked", state="Resume", due=NOW),
    ]
    retry, pause, resumed, again = tasks_wait(tasks, NOW)
    assert "'load' is Retrying until" in retry and "in 30 m" in retry
    assert "'ask' is Paused until somebody resumes it" in pause
    assert "'asked' is Resume and is due" in resumed
    assert "starts the run again" in again
    assert tasks_wait([], NOW) == []
    assert "2 more" in " ".join(tasks_wait(tasks[:1] * 7, NOW))


def test_a_run_that_starts_later_is_not_due() -> None:
    assert "not due before" in sentences(run(due_s=3600), agent())
    assert "in 1 h" in sentences(run(due_s=3600), agent())


def test_a_run_that_waits_for_its_next_attempt_is_not_due_before_that() -> None:
    waits = run("Retrying", due_s=-60, state_start_time=NOW + timedelta(seconds=20))
    assert "not due before" in sentences(waits, agent()) and "in 20" in sentences(waits, agent())


def test_an_agent_that_is_full_does_not_matter_while_another_has_room() -> None:
    full = {"agent": "a", "status": "ok", "reason": "", "runs": 2, "limit": 2}
    assert sentences(run(), agent(), agent("b"), a=full) == "It is due, and b takes it at the next poll."
    assert "and a, b or c takes it" in sentences(run(), *map(agent, "abc"))


def test_a_run_that_is_held_back_says_for_what_it_waits() -> None:
    why = "Waits for room: first of the same flow is still running (overlap: queue)."
    assert sentences(run("Queued", message=why), agent()) == why


def test_without_a_running_agent_the_sentence_says_so() -> None:
    assert sentences(run()) == "No agent with the labels x is running; start one with `flowherd start`."
    assert "No agent with the labels x is running" in sentences(run(), agent(alive=False))


def test_the_missing_label_and_the_living_agents_are_named() -> None:
    assert sentences(run(labels=("x", "moon")), agent()) == "No living agent has the label moon; living: a [x]."


def test_a_run_without_labels_needs_an_agent_without_labels() -> None:
    assert "only an agent without labels" in sentences(run(labels=()), agent())


def test_the_reason_why_an_agent_claims_nothing_is_shown() -> None:
    facts = {"agent": "a", "status": "paused", "reason": "paused: claims nothing", "runs": 0}
    assert sentences(run(), agent(), a=facts) == "Agent 'a' claims nothing: paused: claims nothing."


def test_an_agent_has_no_room_for_a_label_of_which_as_many_run_as_may() -> None:
    facts = {"agent": "a", "status": "ok", "reason": "", "runs": 2, "limit": None, "full_labels": {"x": 2, "y": 1}}
    expected = "Agent 'a' has no room for the label x: 2 of its runs are running (agent.label_limits)."
    assert sentences(run(), agent(), a=facts) == expected


def test_an_agent_at_its_limit_has_no_room() -> None:
    facts = {"agent": "a", "status": "ok", "reason": "", "runs": 2, "limit": 2}
    assert "no room: 2 of 2" in sentences(run(), agent(), a=facts)
    assert "at the next poll" in sentences(run(), agent(), a={**facts, "runs": 1})


def test_for_a_run_that_is_due_for_long_the_agents_log_is_named() -> None:
    assert "see that agent's log" not in sentences(run(due_s=-2), agent())
    assert "it has waited 1 m 40 s, see that agent's log" in sentences(run(due_s=-100), agent())


def test_a_claimed_run_belongs_to_its_agent_also_if_that_is_away_or_was_restarted() -> None:
    claimed = run("Running", agent_id="a")
    assert sentences(claimed, agent()) == "Agent 'a' has it."
    assert "is not running" in sentences(claimed, agent(alive=False))
    restarted = AgentView(id="b", name="a", labels=("x",), last_queried=None, connected=True)
    assert "was restarted since" in sentences(claimed, agent(alive=False), restarted)


def test_an_agent_of_another_host_says_through_the_server_why_it_claims_nothing() -> None:
    paused = AgentReport(hold="paused", hold_reason="paused: claims nothing until `flowherd resume`", limit=8)
    assert "'a' claims nothing: paused" in sentences(run(), replace(agent(), report=paused))
    full = replace(agent(), report=AgentReport(limit=2, runs=1), runs=2)
    assert "'a' has no room: 2 of 2" in sentences(run(), full)
    assert "takes it at the next poll" in sentences(run(), replace(agent(), report=AgentReport(limit=2), runs=1))
    # What an agent of this host says itself is newer.
    assert "takes it at the next poll" in sentences(
        run(), replace(agent(), report=paused), a={"agent": "a", "status": "ok"}
    )
