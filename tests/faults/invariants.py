"""What must be true of every run, whatever was killed: a function of the evidence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from flowherd_runner.contract import reasons
from tests.faults import plan
from tests.faults.evidence import Facts, Identity, Stored, is_final

#: The end that the flow chose: state, reason, and what the message must say.
_OWN_ENDS = {
    "ok": ("Success", reasons.REASON_EXITED, "code 0"),
    "code": ("Failed", reasons.REASON_EXITED, "code 3"),
    "raise": ("Failed", reasons.REASON_EXCEPTION, "as planned"),
}
#: A command that raises ends with a code.
_RAISING_COMMAND = ("Failed", reasons.REASON_EXITED, "code 1")
_LOST = ("Failed", reasons.REASON_LOST, "")
_CANCELLED = ("Cancelled", reasons.REASON_CANCELLED, "")
#: The server itself ends a run of which no agent has told yet that it runs.
_CANCELLED_BY_SERVER = ("Cancelled", None, "")
_PROBABLY_OOM = ("Failed", reasons.REASON_OOM, "probable")
_NOT_STARTED = ("Failed", reasons.REASON_NOT_STARTED, "")

End = tuple[str, str | None, str]


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One broken promise: `kind` is a column of the summary."""

    kind: str
    run_id: str
    evidence: str


@dataclass(kw_only=True)
class Kills:
    """Who of a run was killed by the kit, and whether it was cancelled."""

    #: Names of the signals sent to the flow process while it lived.
    flow: list[str] = field(default_factory=list)
    runner: bool = False
    cancelled: bool = False
    #: The kernel's out-of-memory killer struck on this host meanwhile, whomever: a SIGKILL is probably its doing then.
    oom_on_host: bool = False


def attribute_points(
    points: Iterable[tuple[str, Identity]], found: Mapping[str, Facts], kills: Mapping[str, Kills]
) -> list[tuple[str, Identity]]:
    """Note in `kills` whose runner died at one of `points`; the deaths that are nobody's.

    A runner is known by the pid and start ticks that its flow wrote down. What died before that is known only by
    there being a run without a trace of user code, so those are given out last.
    """
    owner = {runner: run_id for run_id, facts in found.items() for runner in facts.runners}
    unknown = []
    for point, who in points:
        if who in owner:
            kills[owner[who]].runner = True
        else:
            unknown.append((point, who))
    traceless = (run_id for run_id, facts in found.items() if not facts.flows and not kills[run_id].runner)
    left = []
    for point, who in unknown:
        run_id = next(traceless, None) if point in plan.BEFORE_USER_CODE else None
        if run_id is None:
            left.append((point, who))
        else:
            kills[run_id].runner = True
    return left


def check(stored: Stored, facts: Facts, kills: Kills) -> Iterator[Violation]:
    """The promises that a run breaks."""
    for kind, evidence in (*_ends(stored), *_starts(stored, facts), *_cause(stored, facts, kills)):
        yield Violation(kind=kind, run_id=stored.run_id, evidence=f"{evidence}; {stored}; {facts}; {kills}")
    for kind, evidence in _lines(stored, facts, kills):
        yield Violation(kind=kind, run_id=stored.run_id, evidence=f"{evidence}; {stored}; {facts}; {kills}")


def _ends(stored: Stored) -> Iterator[tuple[str, str]]:
    finals = [state for state in stored.history if is_final(state)]
    if not is_final(stored.state):
        yield "lost", f"it is {stored.state} for ever"
    if len(finals) > 1:
        yield "doubled", f"it ended {len(finals)} times"
    for once in ("Submitted", "Running"):
        if stored.history.count(once) > 1:
            yield "doubled", f"it was {once} {stored.history.count(once)} times"


def _starts(stored: Stored, facts: Facts) -> Iterator[tuple[str, str]]:
    if len(facts.flows) > 1:
        yield "doubled", f"its code was started {len(facts.flows)} times"
    if not facts.flows and stored.state == "Success":
        yield "lost", "it succeeded and its code never ran"


def _cause(stored: Stored, facts: Facts, kills: Kills) -> Iterator[tuple[str, str]]:
    if not is_final(stored.state):
        return
    allowed = possible_ends(facts, kills)
    told = (stored.state, stored.reason)
    if not any(told == (state, reason) and words in stored.message for state, reason, words in allowed):
        yield "wrong cause", f"told as {told} with {stored.message!r}, true is one of {allowed}"


def possible_ends(facts: Facts, kills: Kills) -> list[End]:
    """The ends that would be true; one, unless somebody was killed when the run was about to end by itself."""
    if not facts.flows:
        return [_NOT_STARTED, _LOST] if kills.runner else []
    ends: list[End] = []
    if facts.end in _OWN_ENDS:
        ends.append(_OWN_ENDS[facts.end])
    if facts.end == "raise":
        ends.append(_RAISING_COMMAND)
    ends += [("Failed", reasons.REASON_SIGNAL, name) for name in kills.flow]
    if kills.oom_on_host and "SIGKILL" in kills.flow:
        ends.append(_PROBABLY_OOM)
    if kills.runner:
        ends.append(_LOST)
    if kills.cancelled:
        ends += [_CANCELLED, _CANCELLED_BY_SERVER]
    return ends


def _lines(stored: Stored, facts: Facts, kills: Kills) -> Iterator[tuple[str, str]]:
    doubled = len(stored.lines) - len(set(stored.lines))
    if doubled:
        yield "log lines doubled", f"{doubled} lines are there more than once"
    if stored.lines != sorted(stored.lines):
        yield "log lines out of order", f"{stored.lines}"
    missing = set(facts.lines) - set(stored.lines)
    if kills.runner:  # what it had not read any more is lost with it, and nothing else
        missing = {number for number in missing if number < max(stored.lines, default=-1)}
    if missing:
        yield "log lines lost", f"lines {sorted(missing)} are not there"
    if is_final(stored.state) and len(stored.notices) != 1:
        kind = "log lines doubled" if stored.notices else "log lines lost"
        yield kind, f"its end is told {len(stored.notices)} times: {stored.notices}"
