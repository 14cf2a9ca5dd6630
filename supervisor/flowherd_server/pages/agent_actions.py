"""What agents are asked on the pages: to look for runs, to pause, resume, drain and restart; and forgetting one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flowherd.story.agent_rows import AgentRow
from flowherd.story.live_news import Action as Asked
from flowherd.web.formats import counted, duration
from flowherd_server.errors import Refused
from flowherd_server.pages.actions import Action, Deed, Outcome, Question
from flowherd_server.pages.agents import agent_named, runs_by_agent
from flowherd_server.pages.frame import Ask
from flowherd_server.store.microseconds import SECOND_US

#: Field of a form, and parameter of an address, that names an agent.
AGENT_ID, _DEADLINE = "agent", "deadline"
#: How long the page waits for the agent's answer, seconds.
_ANSWER_S = 3.0
#: The deadline of a drain that the form offers, seconds, and how many runs that take longer are named.
_DEADLINE_S, _MOST_NAMED = 600.0, 5
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)\s*([smhd]?)\s*)+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)", re.ASCII)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def _question(
    ask: Ask, verb: str, sentences: Sequence[str], *, template: str = "question.html", is_harsh: bool = False
) -> Question:
    row = agent_named(ask.core, ask.connection, ask.query.get(AGENT_ID, ""))
    name = row.agent.name or row.agent.id
    return Question(
        headline=f"{verb} {name}?",
        sentences=[sentence.replace("{its_runs}", _its_runs(row)).strip() for sentence in sentences],
        button=f"{verb} {name}",
        hidden=[(AGENT_ID, row.agent.id)],
        is_harsh=is_harsh,
        template=template,
        back="/agents",
        here="/agents",
    )


def _its_runs(row: AgentRow) -> str:
    if not row.runs:
        return "It has no runs now."
    return "Its run goes on." if row.runs == 1 else f"Its {row.runs} runs go on."


def _pause_question(ask: Ask) -> Question:
    return _question(ask, "Pause", ["It claims nothing until it is resumed. {its_runs}"])


def _resume_question(ask: Ask) -> Question:
    return _question(ask, "Resume", ["It claims runs again at once."])


def _drain_question(ask: Ask) -> Question:
    sentences = [
        "It claims nothing more, and ends when its runs have ended. What still runs at the deadline is ended then.",
        "supervisord and systemd do not start a drained agent again.",
        *_longer_than_the_deadline(ask),
    ]
    return _question(ask, "Drain", sentences, template="drain_question.html", is_harsh=True)


def _longer_than_the_deadline(ask: Ask) -> list[str]:
    """Return a sentence about the runs that usually need longer than the deadline that the form offers."""
    row = agent_named(ask.core, ask.connection, ask.query.get(AGENT_ID, ""))
    by_agent, found = runs_by_agent(ask.connection), []
    for run in (run for agent_id in row.ids for run in by_agent.get(agent_id, [])):
        usual_s = ask.core.usual.of_flow(ask.connection, run["flow_id"])
        if usual_s is not None and run["start_time"] is not None:
            left_s = usual_s - (ask.now_us - run["start_time"]) / SECOND_US
            found += [f"{run['flow_name']} usually needs {duration(left_s)} more"] if left_s > _DEADLINE_S else []
    if not found:
        return []
    more = f"; and {len(found) - _MOST_NAMED} more runs" if len(found) > _MOST_NAMED else ""
    return [f"{'; '.join(found[:_MOST_NAMED])}{more}: longer than the deadline that is entered below."]


def _restart_question(ask: Ask) -> Question:
    sentences = ["It takes up new code and settings. {its_runs} It adopts its runs, and their logs stay whole."]
    return _question(ask, "Restart", sentences)


def _forget_question(ask: Ask) -> Question:
    row = agent_named(ask.core, ask.connection, ask.query.get(AGENT_ID, ""))
    _check_is_gone(row)
    return _question(ask, "Forget", ["It disappears from the list. If it starts again, it is there again."])


def _check_is_gone(row: AgentRow) -> None:
    if row.is_there:
        raise Refused(f"{row.agent.name} is there; only an agent that is away can be forgotten.")
    if row.runs:
        raise Refused(f"{row.agent.name} has {counted(row.runs, 'run')} that may still go on; it cannot be forgotten.")


def _agent(deed: Deed) -> AgentRow:
    with deed.core.database.reading() as connection:
        return agent_named(deed.core, connection, str(deed.form.get(AGENT_ID, "")))


def _ask(deed: Deed, action: Asked, done: str, deadline_s: float | None = None) -> Outcome:
    row = _agent(deed)
    given = {"agent_id": row.agent.id, "action": action.value, "deadline_s": deadline_s}
    order_id = deed.carry_out("ask_agent", given)["order_id"]
    refused = deed.core.live.orders.outcome(order_id, _ANSWER_S)
    if refused:
        raise Refused(f"{row.agent.name} did not {action.value}: {refused}")
    if refused is None:
        return Outcome(f"Asked {row.agent.name} to {action.value}; it has not answered yet.")
    return Outcome(f"{row.agent.name} {done}.")


def _pause(deed: Deed) -> Outcome:
    return _ask(deed, Asked.PAUSE, "is paused")


def _resume(deed: Deed) -> Outcome:
    return _ask(deed, Asked.RESUME, "is resumed")


def _drain(deed: Deed) -> Outcome:
    text = str(deed.form.get(_DEADLINE, "")).strip().lower()
    deadline_s = _seconds(text) if text else None
    said = "" if deadline_s is None else f", for {duration(deadline_s)} at most"
    return _ask(deed, Asked.DRAIN, f"claims nothing more and ends with its runs{said}", deadline_s)


def _seconds(text: str) -> float:
    if not _DURATION.fullmatch(text):
        raise Refused(f"The deadline {text!r} is not a duration; write it as 90s, 10m, 1h30m or 2d.")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def _restart(deed: Deed) -> Outcome:
    return _ask(deed, Asked.RESTART, "restarts")


def _forget(deed: Deed) -> Outcome:
    row = _agent(deed)
    _check_is_gone(row)
    for agent_id in row.ids:
        deed.carry_out("delete_agent", {"agent_id": agent_id})
    return Outcome(f"Forgot {row.agent.name}.")


def _wake_question(_ask: Ask) -> Question:
    return Question(
        headline="Have all agents look for runs now?",
        sentences=["Each agent that is connected asks for runs at once. That changes nothing for runs that go on."],
        button="Have them look",
        back="/agents",
        here="/agents",
    )


def _wake(deed: Deed) -> Outcome:
    deed.core.wake_all()
    return Outcome("All agents that are connected look for runs now.")


ACTIONS = (
    Action(path="/agents/wake", question=_wake_question, carry_out=_wake),
    Action(path="/agents/pause", question=_pause_question, carry_out=_pause),
    Action(path="/agents/resume", question=_resume_question, carry_out=_resume),
    Action(path="/agents/drain", question=_drain_question, carry_out=_drain),
    Action(path="/agents/restart", question=_restart_question, carry_out=_restart),
    Action(path="/agents/forget", question=_forget_question, carry_out=_forget),
)
