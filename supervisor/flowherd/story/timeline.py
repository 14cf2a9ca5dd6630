"""What happened to one flow run, in order, from its states, flowherd's lines in its log, and what its host knows.

`timeline` has every entry, for `explain --all` and programs; `story` has each thing once, for people.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from flowherd.shown_times import spoken_span
from flowherd.states import CLAIMABLE, FINISHED, RunState
from flowherd.story.account import ADOPTED, ASKED_TO_END, ENDED, KILLED, NEAR_LIMIT, STARTED, Account
from flowherd.story.asked_by import by_phrase
from flowherd.story.records import NoticeView, RunRecord, StateView
from flowherd.story.tones import Tone, tone_of

_LATEST = datetime.max.replace(tzinfo=timezone.utc)


@dataclass(frozen=True, kw_only=True)
class TimelineEntry:
    """One entry of the timeline."""

    at: datetime | None
    what: str
    detail: str
    #: Where it is known from: "backend", "log", "directory" or "account".
    source: str


def timeline(
    run: RunRecord | None,
    states: Sequence[StateView],
    notices: Sequence[NoticeView],
    of_host: Sequence[TimelineEntry] = (),
    agent: str | None = None,
    earlier: Mapping[datetime, str | None] | None = None,
) -> list[TimelineEntry]:
    """Return everything that happened to the run, ordered by time; entries without a time come last.

    `of_host` is what its directory or its account has. `agent` has claimed the run last, and `earlier` has the agents
    of the attempts before by the times of their ends.

    States are dated by what the runner wrote down, which stands before the state of the same time.
    """
    found = [*of_host, *_from_backend(run, states, agent, earlier or {}), *_from_log(notices)]
    return sorted(found, key=lambda entry: entry.at or _LATEST)


def events_of(account: Account | None) -> list[TimelineEntry]:
    """Return the events of a run's account as entries."""
    events = () if account is None else account.events
    return [TimelineEntry(at=each.at, what=each.what, detail=each.detail, source="account") for each in events]


def _from_backend(
    run: RunRecord | None, states: Sequence[StateView], agent: str | None, earlier: Mapping[datetime, str | None]
) -> Iterator[TimelineEntry]:
    if run is not None:
        labels = ", ".join(run.labels) or "none"
        repeats = f", repeats {run.repeats}" if run.repeats else ""
        by = f", {by_phrase(run.created_by)}" if run.created_by else ""
        detail = f"{run.flow}, labels: {labels}{repeats}{by}"
        yield TimelineEntry(at=run.created, what="created", detail=detail, source="backend")
        if run.scheduled_start_time is not None and run.scheduled_start_time != run.created:
            yield TimelineEntry(at=run.scheduled_start_time, what="due", detail="", source="backend")
    claimants = _claimants(states, agent, earlier)
    for state, claimant in zip(states, claimants, strict=True):
        yield TimelineEntry(at=state.at, what=_word(state), detail=_detail(state, claimant), source="backend")


def _claimants(
    states: Sequence[StateView], agent: str | None, earlier: Mapping[datetime, str | None]
) -> list[str | None]:
    """Return for each state which agent claimed the run with it; None if it is none of a claim, or not known.

    Of several claims of one attempt only the last one's agent is known.
    """
    found, known = list[str | None](), set[datetime | None]()
    for state in reversed(states):
        claimant = None
        if state.state == RunState.SUBMITTED and state.at is not None:
            end = min((end for end in earlier if end >= state.at), default=None)
            if end not in known:
                known.add(end)
                claimant = agent if end is None else earlier[end]
        found.append(claimant)
    return found[::-1]


def _word(state: StateView) -> str:
    if state.state in CLAIMABLE:
        return "queued"
    is_claim = state.state == RunState.SUBMITTED
    return "claimed" if is_claim else "ended" if state.state in FINISHED else state.state.lower()


def _detail(state: StateView, agent: str | None) -> str:
    parts = [f"{state.state}: {state.message}" if state.message and state.message != state.state else state.state]
    if agent:
        parts.append(f"by agent {agent}")
    if state.by:
        parts.append(by_phrase(state.by))
    if state.pid is not None and state.state not in FINISHED:
        parts.append(f"pid {state.pid}")
    if state.reason is not None:
        parts[0] = parts[0].removesuffix(".")
        parts.append(f"reason {state.reason}" + (f", {state.grade}" if state.grade else ""))
    return "; ".join(parts)


def _from_log(notices: Sequence[NoticeView]) -> Iterator[TimelineEntry]:
    for notice in notices:
        yield TimelineEntry(at=notice.at, what="logged", detail=notice.message, source="log")


@dataclass(frozen=True, kw_only=True)
class StoryLine:
    """One thing that happened, for people: a word, what follows it, and more in small print."""

    at: datetime | None
    what: str
    rest: str = ""
    detail: str = ""
    tone: Tone = Tone.WAIT
    #: "proven" or "probable" at an end with a known cause, else empty.
    grade: str = ""


#: What flowherd writes into the log and a state says too.
_SAID_BY_STATES = ("Submitted for execution", "Attempt ")
_TONES = {ADOPTED: Tone.WARN, NEAR_LIMIT: Tone.WARN, ASKED_TO_END: Tone.BAD, KILLED: Tone.BAD}


def story(
    run: RunRecord | None,
    states: Sequence[StateView],
    notices: Sequence[NoticeView] = (),
    of_host: Sequence[TimelineEntry] = (),
    agent: str | None = None,
    earlier: Mapping[datetime, str | None] | None = None,
) -> list[StoryLine]:
    """Return what happened to the run, each thing once, ordered by time; the arguments are those of `timeline`."""
    found = [
        *_beginning(run),
        *_states(run, states, of_host, _claimants(states, agent, earlier or {})),
        *_of_host(states, of_host),
        *_logged(states, notices, of_host),
    ]
    return sorted(found, key=lambda line: line.at or _LATEST)


def _beginning(run: RunRecord | None) -> Iterator[StoryLine]:
    if run is None:
        return
    labels = f"labels: {', '.join(run.labels)}" if run.labels else "no labels"
    repeats = f"; repeats {run.repeats}" if run.repeats else ""
    yield StoryLine(at=run.created, what="created", rest=by_phrase(run.created_by), detail=labels + repeats)
    if run.scheduled_start_time is not None and run.scheduled_start_time != run.created:
        yield StoryLine(at=run.scheduled_start_time, what="due")


def _states(
    run: RunRecord | None,
    states: Sequence[StateView],
    of_host: Sequence[TimelineEntry],
    claimants: Sequence[str | None],
) -> Iterator[StoryLine]:
    due = run.scheduled_start_time if run is not None else None
    for number, (state, claimant) in enumerate(zip(states, claimants, strict=True)):
        if state.state in FINISHED:
            yield _end(state, _detail_of(of_host, ENDED, state.at))
        elif state.state == RunState.SUBMITTED:
            by = f"by agent {claimant}" if claimant else ""
            yield StoryLine(
                at=state.at, what="claimed", rest=by, detail=_after(due, state.at, "it was due"), tone=Tone.RUN
            )
            due = None
        elif state.state == RunState.RUNNING:
            process = _detail_of(of_host, STARTED, state.at) or (f"flow process {state.pid}" if state.pid else "")
            yield StoryLine(at=state.at, what="started", detail=process, tone=Tone.RUN)
        elif number or state.state != RunState.SCHEDULED:
            said = "" if state.message == state.state else state.message or ""
            yield StoryLine(at=state.at, what=_word(state), rest=by_phrase(state.by) or said, tone=tone_of(state.state))


def _end(state: StateView, of_host: str) -> StoryLine:
    tone = tone_of(state.state)
    is_graded = state.grade is not None and tone is not Tone.OK
    reason = state.reason if state.reason != "exited" else None
    parts = [part for part in (by_phrase(state.by), reason, of_host) if part]
    detail = "; ".join(parts) or ("" if state.message == state.state else state.message or "")
    stored = _after(state.at, state.stored, "its end")
    return StoryLine(
        at=state.at,
        what="ended",
        rest=f"as {state.state}" + (f", known to the server {stored}" if stored else ""),
        detail=detail,
        tone=tone,
        grade=state.grade or "" if is_graded else "",
    )


def _of_host(states: Sequence[StateView], of_host: Sequence[TimelineEntry]) -> Iterator[StoryLine]:
    told = {
        *([STARTED] if any(state.state == RunState.RUNNING for state in states) else []),
        *([ENDED] if any(state.state in FINISHED for state in states) else []),
    }
    for entry in of_host:
        if entry.what not in told:
            tone, detail = _TONES.get(entry.what, Tone.WAIT), entry.detail
            if entry.what == ASKED_TO_END:  # the reason's word is there for programs
                detail = detail.partition(": ")[2] or detail
            yield StoryLine(at=entry.at, what=entry.what, detail=detail, tone=tone)


def _logged(
    states: Sequence[StateView], notices: Sequence[NoticeView], of_host: Sequence[TimelineEntry]
) -> Iterator[StoryLine]:
    said = [text for state in states if state.message for text in (f"{state.state}: {state.message}", state.message)]
    said += [entry.detail for entry in of_host if entry.detail]
    ends = tuple(f"{state.state}: " for state in states if state.state in FINISHED)
    for notice in notices:
        if not notice.message.startswith((*said, *_SAID_BY_STATES, *ends)):
            yield StoryLine(at=notice.at, what="logged", rest=notice.message)


def _detail_of(of_host: Sequence[TimelineEntry], what: str, at: datetime | None) -> str:
    """Return the detail of the host's entry of this kind that is nearest to a state's time."""
    found = [entry for entry in of_host if entry.what == what]
    if at is not None:
        found.sort(key=lambda entry: abs((entry.at - at).total_seconds()) if entry.at else float("inf"))
    return found[0].detail if found else ""


def _after(before: datetime | None, at: datetime | None, what: str) -> str:
    """Return "21 ms after it was due"; empty if a time is not known or the order is not so."""
    if before is None or at is None or at < before:
        return ""
    return f"{spoken_span((at - before).total_seconds())} after {what}"
