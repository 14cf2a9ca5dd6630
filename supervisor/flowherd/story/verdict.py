"""What stands above everything else about a run: one sentence on how it is or how it ended, and what that rests on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from flowherd.shown_times import spoken_size, spoken_span
from flowherd.states import ACTIVE, RunState
from flowherd.story.account import KEPT_APART, Account, RunEvent, read_moment
from flowherd.story.records import NoticeView, RunRecord
from flowherd.story.timeline import TimelineEntry
from flowherd.story.tones import Tone, tone_of
from flowherd_runner.contract.reasons import REASON_EXCEPTION, REASON_EXITED

#: From this share of its limit on, the memory of a run is worth a word.
NEAR_LIMIT_SHARE = 0.9
#: Most names of processes in a sentence.
_MOST_NAMES = 5
#: How flowherd's line about an end separates the message from the evidence (host/conclude.py).
_CAUSE = " Cause "


@dataclass(frozen=True, kw_only=True)
class EndFacts:
    """What is known of a run's end beside its state; None or empty for what is not."""

    #: One of flowherd_runner.contract.reasons, and how certain it is: proven or probable.
    reason: str | None = None
    grade: str | None = None
    #: What proves the reason, or makes it probable, in a sentence.
    evidence: str = ""
    #: Processes that outlived the flow process and were ended, as "name (pid)", and the number of all.
    leftovers: Sequence[str] = ()
    leftovers_count: int = 0
    #: Processes that could not be ended.
    survivors: Sequence[str] = ()
    #: At which level it ran, in words, if that may be why it ended so; else empty.
    kept_apart: str = ""


@dataclass(frozen=True, kw_only=True)
class LiveFacts:
    """What is known of a run that has not ended; None or empty for what is not."""

    #: Name of the agent that has it.
    agent: str | None = None
    #: How long runs of its flow usually take, seconds.
    usual_s: float | None = None
    #: Why it counts as stuck, in a sentence.
    stuck: str = ""
    last_line_at: datetime | None = None
    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a run is, or how it ended."""

    #: One line without line breaks.
    sentence: str
    tone: Tone
    #: "proven" or "probable" for a known cause of an end, else empty.
    grade: str = ""
    #: What it rests on, and what else a person should know first: sentences.
    details: tuple[str, ...] = ()


def verdict(
    run: RunRecord,
    *,
    now: datetime,
    end: EndFacts = EndFacts(),
    live: LiveFacts = LiveFacts(),
    waits: Sequence[str] = (),
) -> Verdict:
    """Return the verdict on a run. `waits` is what it waits for, the most important first (waiting.py)."""
    if run.finished:
        return _ended(run, end)
    if run.state in ACTIVE:
        return _running(run, live, waits, now)
    sentence, *more = [*waits, *([run.message] if run.message and not waits else [])] or [f"It is {run.state}."]
    return Verdict(sentence=_first_line(sentence), tone=tone_of(run.state), details=tuple(more))


def end_facts(
    run: RunRecord,
    reason: str | None,
    grade: str | None,
    account: Account | None,
    notices: Sequence[NoticeView] = (),
) -> EndFacts:
    """Return the facts of an end from its last state and its account; without one, from flowherd's own log lines."""
    if account is not None:
        return EndFacts(
            reason=reason,
            grade=grade,
            evidence=account.evidence or logged_evidence(run, notices) or "",
            leftovers=account.leftovers,
            leftovers_count=account.leftovers_count,
            survivors=account.survivors,
            kept_apart=kept_apart(reason, account.events),
        )
    return EndFacts(reason=reason, grade=grade, evidence=logged_evidence(run, notices) or "")


def live_facts(run: RunRecord, agent: str | None = None, usual_s: float | None = None) -> LiveFacts:
    """Return the facts of a run that has not ended, whose figures were asked for."""
    found = run.figures
    line_at = None if found is None else read_moment(found.last_line_at)
    return LiveFacts(
        agent=agent,
        usual_s=usual_s,
        stuck=run.stuck,
        last_line_at=None if line_at is None else datetime.fromtimestamp(line_at, timezone.utc),
        memory_bytes=None if found is None else found.memory_bytes,
        memory_limit_bytes=None if found is None else found.memory_limit_bytes,
    )


def kept_apart(reason: str | None, events: Iterable[RunEvent | TimelineEntry]) -> str:
    """Return the level of isolation that may be why a run ended, in words, from what happened to it; empty if none."""
    line = next((event.detail for event in events if event.what == KEPT_APART), "")
    is_of_flow = reason in (REASON_EXITED, REASON_EXCEPTION)  # others name what ended it
    return line.partition(". ")[0].rstrip(".") if is_of_flow else ""


def logged_evidence(run: RunRecord, notices: Sequence[NoticeView]) -> str | None:
    """Return flowherd's own log line about the end of a run; None if it has not ended, or there is none."""
    if not run.finished:
        return None
    reported = next((x.message for x in reversed(notices) if x.message.startswith(f"{run.state}: ")), None)
    # For a run with an engine of its own, flowherd logs how the process ended, and not how the flow did.
    return reported or next((x.message for x in reversed(notices) if x.message.startswith("The ")), None)


def _ended(run: RunRecord, end: EndFacts) -> Verdict:
    message = (run.message or "").strip()
    sentence = _first_line(message) or f"{run.state}."
    rest = message[len(sentence) :].strip()
    details = [rest] if rest else []
    if evidence := _without(end.evidence, run.state, message):
        details.append(_sentence(evidence))
    if left := _left_running(end):
        details.append(left)
    if end.kept_apart and tone_of(run.state) is not Tone.OK:
        details.append(f"{end.kept_apart}. If it could not write, see or reach something, its isolation may be why.")
    if end.survivors:
        details.append(f"Could not be ended and may still run: {_names(end.survivors, len(end.survivors))}.")
    has_grade = end.grade is not None and tone_of(run.state) is not Tone.OK
    return Verdict(
        sentence=sentence, tone=tone_of(run.state), grade=end.grade or "" if has_grade else "", details=tuple(details)
    )


def _running(run: RunRecord, live: LiveFacts, waits: Sequence[str], now: datetime) -> Verdict:
    parts = [_how_long(run, live, now)]
    is_near = (
        live.memory_bytes is not None
        and live.memory_limit_bytes
        and (live.memory_bytes >= NEAR_LIMIT_SHARE * live.memory_limit_bytes)
    )
    if is_near and live.memory_bytes is not None and live.memory_limit_bytes:
        share = f"{100 * live.memory_bytes / live.memory_limit_bytes:.0f} %"
        parts.append(f"Memory is at {share} of its limit of {spoken_size(live.memory_limit_bytes)}.")
    if live.stuck:
        parts.insert(0, _sentence(live.stuck))
    details = list(waits)
    if not details and live.agent:
        details.append(f"Agent {live.agent} has it.")
    if live.last_line_at is not None:
        details.append(f"Its last line came {spoken_span((now - live.last_line_at).total_seconds())} ago.")
    tone = Tone.WARN if live.stuck or is_near else tone_of(run.state)
    return Verdict(sentence=" ".join(parts), tone=tone, details=tuple(details))


def _how_long(run: RunRecord, live: LiveFacts, now: datetime) -> str:
    word = "Being cancelled" if run.state == RunState.CANCELLING else "Running"
    if run.start_time is None:
        return f"{word}."
    usual = "" if live.usual_s is None else f"; it usually takes {spoken_span(live.usual_s)}"
    return f"{word} for {spoken_span((now - run.start_time).total_seconds())}{usual}."


def _left_running(end: EndFacts) -> str:
    if not end.leftovers:
        return ""
    count = max(end.leftovers_count, len(end.leftovers))
    were = (
        "1 process was left running and was ended" if count == 1 else f"{count} processes were left running and ended"
    )
    return f"{were}: {_names(end.leftovers, count)}."


def _names(names: Sequence[str], count: int) -> str:
    shown = names[:_MOST_NAMES]
    more = count - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _without(evidence: str, state: str, message: str) -> str:
    """Return the evidence without what the message says; empty if it says nothing more."""
    for said in (f"{state}: {message}", message):
        if message and evidence.startswith(said):
            evidence = evidence[len(said) :].strip(" .")
    cause = evidence.removeprefix(_CAUSE.strip() + " ").partition(": ")
    if cause[0] in ("proven", "probable"):
        evidence = cause[2]
    return "" if evidence and evidence in message else evidence


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _sentence(text: str) -> str:
    """Return the text with a capital at its beginning, unless that is a name such as wait4, and a full stop."""
    word = text.partition(" ")[0]
    text = text[:1].upper() + text[1:] if word.isalpha() and word.islower() else text
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
