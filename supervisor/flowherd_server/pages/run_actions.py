"""Cancelling runs and running them again, one or several: `/runs/cancel?run=ID&run=ID`, `/runs/again?run=ID`."""

from __future__ import annotations

from sqlalchemy import RowMapping, select

from flowherd.states import FINISHED, TAKEN, RunState
from flowherd.web.formats import counted, duration
from flowherd_server.errors import Refused
from flowherd_server.mutations.several_runs import MAX_RUNS
from flowherd_server.pages.actions import Action, Deed, Outcome, Question
from flowherd_server.pages.frame import Ask, NoSuchPage
from flowherd_server.store.microseconds import SECOND_US
from flowherd_server.store.tables import FLOW, FLOW_RUN

#: Field of a form, and parameter of an address, that names a run.
RUN = "run"


def _runs(ask: Ask) -> list[RowMapping]:
    ids = list(dict.fromkeys(ask.query.getlist(RUN)))
    if not ids:
        raise Refused("No run is marked. Go back and mark those that it shall concern.")
    if len(ids) > MAX_RUNS:
        raise Refused(f"{len(ids)} runs are marked, and {MAX_RUNS} at once are allowed.")
    columns = [FLOW_RUN.c[name] for name in ("id", "name", "state", "start_time")]
    query = (
        select(*columns, FLOW.c.name.label("flow_name"))
        .join(FLOW, FLOW.c.id == FLOW_RUN.c.flow_id)
        .where(FLOW_RUN.c.id.in_(ids))
    )
    rows = list(ask.connection.execute(query).mappings())
    if not rows:
        raise NoSuchPage("The runs that are marked do not exist, or were deleted meanwhile.")
    return rows


def _names(rows: list[RowMapping]) -> list[str]:
    return [f"{row['flow_name']} / {row['name']}, {row['state']}" for row in rows]


def _of(rows: list[RowMapping]) -> str:
    return f"{rows[0]['flow_name']}" if len(rows) == 1 else counted(len(rows), "run")


def _how_it_ends(ask: Ask, taken: list[RowMapping]) -> str:
    """Return what will happen to the processes of runs that agents have."""
    if len(taken) > 1:
        return (
            f"The processes of {len(taken)} runs are asked to end, and killed after the grace period of their agent if "
            "they have not."
        )
    run = taken[0]
    figures = ask.core.live.figures(run["id"])
    count = 0 if figures is None else figures.processes or 0
    whose = "Its process is" if count == 1 else f"Its {count:,} processes are" if count else "Its processes are"
    known_s = None if figures is None else figures.grace_s
    grace = "the grace period of its agent" if known_s is None else duration(known_s)
    asked = f"{whose} asked to end, and killed after {grace} if {'it has' if count == 1 else 'they have'} not."
    if run["start_time"] is None:
        return asked
    return f"{asked} It has been running for {duration((ask.now_us - run['start_time']) / SECOND_US)}."


def _cancel_question(ask: Ask) -> Question:
    rows = _runs(ask)
    taken = [row for row in rows if row["state"] in TAKEN]
    ended = [row for row in rows if row["state"] in FINISHED]
    waiting = len(rows) - len(taken) - len(ended)
    sentences = []
    if taken:
        sentences.append(_how_it_ends(ask, taken))
    if waiting:
        sentences.append(
            "It has not been started, and will not be."
            if waiting == 1
            else f"{waiting} have not been started, and will not be."
        )
    if ended:
        sentences.append(
            "It has ended already, and stays as it is."
            if len(rows) == 1
            else f"{len(ended)} have ended already, and stay as they are."
        )
    return Question(
        headline=f"Cancel {_of(rows)}?",
        sentences=sentences,
        names=_names(rows),
        button="Cancel the run" if len(rows) == 1 else f"Cancel {counted(len(rows), 'run')}",
        is_harsh=True,
        hidden=[(RUN, row["id"]) for row in rows],
        back="/runs",
        here="/runs",
    )


def _cancel(deed: Deed) -> Outcome:
    answers = deed.carry_out("cancel_flow_runs", {"flow_run_ids": deed.form.getlist(RUN)})["flow_runs"]
    done = [each for each in answers if each.get("done")]
    going = sum(each["state"] == RunState.CANCELLING for each in done)
    ended = sum(each["state"] is not None for each in answers) - len(done)
    said = [
        f"Cancelled {len(done)}"
        if not going
        else f"Asked {counted(going, 'run')} to end" + (f", cancelled {len(done) - going}" if len(done) > going else "")
    ]
    if ended:
        said.append(f"{ended} had ended already")
    return Outcome("; ".join(said) + ".")


def _again_question(ask: Ask) -> Question:
    rows = _runs(ask)
    unfinished = [row for row in rows if row["state"] not in FINISHED]
    sentences = ["A new run is created with the same parameters, labels and run configuration, and starts at once."]
    if unfinished:
        sentences.append(
            f"{len(unfinished)} of them {'has' if len(unfinished) == 1 else 'have'} not ended, and cannot be run again."
        )
    return Question(
        headline=f"Run {_of(rows)} again?",
        sentences=sentences,
        names=_names(rows),
        button="Run again" if len(rows) == 1 else f"Run {counted(len(rows), 'run')} again",
        hidden=[(RUN, row["id"]) for row in rows],
        back="/runs",
        here="/runs",
    )


def _again(deed: Deed) -> Outcome:
    answers = deed.carry_out("retry_flow_runs", {"flow_run_ids": deed.form.getlist(RUN)})["flow_runs"]
    created = [each["id"] for each in answers if each["id"]]
    refused = [each["message"] for each in answers if not each["id"]]
    if not created:
        raise Refused("; ".join(dict.fromkeys(refused)))
    said = f"Created {counted(len(created), 'run')}" + (f"; {len(refused)} not: {refused[0]}" if refused else "") + "."
    # Who repeats a run from its page wants to see the new one; who does so in a list goes on with the list.
    is_one = len(answers) == 1 and str(deed.form.get("back", "")).startswith(f"/runs/{answers[0]['flow_run_id']}")
    return Outcome(said, to=f"/runs/{created[0]}" if is_one else None)


ACTIONS = (
    Action(path="/runs/cancel", question=_cancel_question, carry_out=_cancel),
    Action(path="/runs/again", question=_again_question, carry_out=_again),
)
