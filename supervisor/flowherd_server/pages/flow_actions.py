"""Starting a run of a flow, and pausing and resuming schedules."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import RowMapping, func, select

from flowherd.schedules.in_words import schedule_in_words
from flowherd.web.form_tokens import FIELD
from flowherd.web.formats import counted
from flowherd_server.errors import Refused
from flowherd_server.pages.actions import Action, Deed, Outcome, Question
from flowherd_server.pages.flow_rows import flow_address, shared_names
from flowherd_server.pages.frame import Ask, NoSuchPage
from flowherd_server.pages.run_form import FLOW_ID, read_form, run_form
from flowherd_server.store.tables import FLOW, FLOW_GROUP, FLOW_RUN, PROJECT

#: Prefix of the idempotency key of a run that a form has created.
_KEY_PREFIX = "page:"


def _run_question(ask: Ask) -> Question:
    form = run_form(ask.core, ask.connection, ask.query.get(FLOW_ID, ""))
    return Question(
        headline=f"Run {form.flow_name}?",
        sentences=[form.who_takes_it],
        button="Run",
        hidden=[(FLOW_ID, form.flow_id)],
        template="run_question.html",
        values={"form": form},
        back=flow_address(form.flow_name, form.flow_id),
        here="/flows",
    )


def _run(deed: Deed) -> Outcome:
    with deed.core.database.reading() as connection:
        form = run_form(deed.core, connection, str(deed.form.get(FLOW_ID, "")))
    given = read_form(form, deed.form)
    # The form's own key, so that a doubled click or a repeated request starts one run.
    key = _KEY_PREFIX + str(deed.form.get(FIELD, "")).partition(".")[0]
    run_id = deed.carry_out("create_flow_run", {**given, "idempotency_key": key})["id"]
    return Outcome(f"Created a run of {form.flow_name}.", to=f"/runs/{run_id}")


def _scheduled(ask: Ask, *, active: bool) -> list[RowMapping]:
    """Return the flows that an address names, or all, whose schedule is switched on, or off."""
    columns = (FLOW.c.id, FLOW.c.name, FLOW.c.schedule, FLOW_GROUP.c.schedule.label("group_schedule"))
    query = select(*columns, PROJECT.c.name.label("project")).join(FLOW_GROUP, FLOW_GROUP.c.id == FLOW.c.flow_group_id)
    query = query.join(PROJECT, PROJECT.c.id == FLOW.c.project_id)
    query = query.where(~FLOW.c.archived, FLOW.c.is_schedule_active if active else ~FLOW.c.is_schedule_active)
    ids = ask.query.getlist(FLOW_ID)
    rows = ask.connection.execute((query.where(FLOW.c.id.in_(ids)) if ids else query).order_by(FLOW.c.name)).mappings()
    found = [row for row in rows if row["group_schedule"] or row["schedule"]]
    if not found:
        word = "runs" if active else "is paused"
        raise NoSuchPage(
            f"No schedule of these {word}; perhaps it was changed meanwhile. Look at the list of schedules."
        )
    return found


def _question(ask: Ask, rows: Sequence[RowMapping], verb: str, sentences: Sequence[str]) -> Question:
    one = len(rows) == 1
    shared = shared_names(ask.connection)
    address = flow_address(rows[0]["name"], rows[0]["id"], rows[0]["project"] if rows[0]["name"] in shared else None)
    return Question(
        headline=f"{verb} the schedule of {rows[0]['name']}?" if one else f"{verb} {counted(len(rows), 'schedule')}?",
        sentences=sentences,
        names=[]
        if one
        else [f"{row['name']}: {schedule_in_words(row['group_schedule'] or row['schedule'])}" for row in rows],
        button=f"{verb} {'it' if one else counted(len(rows), 'schedule')}",
        hidden=[(FLOW_ID, row["id"]) for row in rows],
        back=address if one else "/schedules",
        here="/schedules",
    )


def _pause_question(ask: Ask) -> Question:
    rows = _scheduled(ask, active=True)
    waiting = (
        select(func.count())
        .select_from(FLOW_RUN)
        .where(
            FLOW_RUN.c.flow_id.in_([row["id"] for row in rows]),
            FLOW_RUN.c.state == "Scheduled",
            FLOW_RUN.c.auto_scheduled,
        )
    )
    number = ask.connection.execute(waiting).scalar_one()
    taken = (
        f"The {counted(number, 'run')} that were created ahead are removed."
        if number != 1
        else "The run that was created ahead is removed."
    )
    sentences = ["No run starts by it until it is resumed. Runs that go on are left alone."]
    return _question(ask, rows, "Pause", [*sentences, *([taken] if number else [])])


def _resume_question(ask: Ask) -> Question:
    rows = _scheduled(ask, active=False)
    return _question(
        ask,
        rows,
        "Resume",
        ["Its runs start again from its next time on. Those that were left out are not made up for."],
    )


def _switch(deed: Deed, operation: str, word: str) -> Outcome:
    ids = [str(each) for each in deed.form.getlist(FLOW_ID)]
    if not ids:
        raise Refused("The form names no flow. Go back to the list of schedules.")
    done, refused = 0, []
    for flow_id in ids:
        try:
            done += deed.carry_out(operation, {"flow_id": flow_id})["success"] is True
        except Refused as refusal:
            refused.append(str(refusal))
    if not done:
        raise Refused("; ".join(dict.fromkeys(refused)) or "none of these flows has a schedule any more")
    said = f"{word} {counted(done, 'schedule')}"
    return Outcome(f"{said}; {len(refused)} not: {refused[0]}." if refused else f"{said}.")


def _pause(deed: Deed) -> Outcome:
    return _switch(deed, "set_schedule_inactive", "Paused")


def _resume(deed: Deed) -> Outcome:
    return _switch(deed, "set_schedule_active", "Resumed")


ACTIONS = (
    Action(path="/runs/new", question=_run_question, carry_out=_run),
    Action(path="/schedules/pause", question=_pause_question, carry_out=_pause),
    Action(path="/schedules/resume", question=_resume_question, carry_out=_resume),
)
