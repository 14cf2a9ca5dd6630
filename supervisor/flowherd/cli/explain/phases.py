"""`flowherd explain --phases`: when one run went from each step of its life to the next.

The times are those of the server's clock and of the agent's host; on one machine they are the same clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from flowherd.host.delivery.journal_reader import BATCH_BYTES, read_batch
from flowherd.phase_times import known_phases
from flowherd.states import FINISHED
from flowherd.times import read_time
from flowherd_runner.contract import files

if TYPE_CHECKING:
    from flowherd.client.runs import RunView
    from flowherd.host.store.local_facts import LocalFacts
    from flowherd.story.records import StateView

#: The steps in their usual order, and what each means.
STEPS = {
    "created": "the server has the run",
    "due": "it may start",
    "intent": "written down on the host, before the claim",
    "claimed": "the server has given it to the agent",
    "asked": "the runner has its directory",
    "started": "the start is recorded",
    "code": "the flow process goes on to the user's code",
    "first line": "its first line of output",
    "ended": "the flow process has ended",
    "recorded": "its processes are gone, the exit record is made",
    "stored": "the server has the end",
}


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A step of a run; without a time if none was recorded."""

    phase: str
    at: datetime | None
    #: Time since the run was created or due, whichever was later, and since the step before; milliseconds.
    since_due_ms: float | None
    since_previous_ms: float | None


@dataclass(frozen=True, kw_only=True)
class StoredTimes:
    """What only the server knows of a run."""

    first_line: datetime | None = None
    changed: datetime | None = None


def phases(
    run: RunView | None, states: Sequence[StateView], stored: StoredTimes, local: LocalFacts | None
) -> list[Phase]:
    """Return the steps in the order in which they happened; those without a time come last."""
    found = {**_from_backend(run, states, stored), **(_from_directory(local) if local is not None else {})}
    known = sorted((at, name) for name in STEPS if (at := found.get(name)) is not None)
    due = max((at for at, name in known if name in ("created", "due")), default=known[0][0] if known else None)
    steps, before = [], None
    for at, name in known:
        since_due = None if due is None else _ms(at, due)
        steps.append(Phase(phase=name, at=at, since_due_ms=since_due, since_previous_ms=_ms(at, before)))
        before = at
    missing = [name for name in STEPS if found.get(name) is None]
    return steps + [Phase(phase=name, at=None, since_due_ms=None, since_previous_ms=None) for name in missing]


def _ms(at: datetime, before: datetime | None) -> float | None:
    return None if before is None else round(1000 * (at - before).total_seconds(), 1)


def _from_backend(run: RunView | None, states: Sequence[StateView], stored: StoredTimes) -> dict[str, datetime | None]:
    found: dict[str, datetime | None] = {"first line": stored.first_line}
    if run is not None:
        found |= {"created": run.created, "due": run.scheduled_start_time}
    for state in states:  # of a run that was started again, the last start counts
        if state.state == "Submitted":
            found["claimed"] = state.at
        elif state.state == "Running":
            found["started"] = state.at
        elif state.state in FINISHED:
            found |= {"ended": state.at, "stored": stored.changed, **_times(dict(state.phases))}
    return found


def _from_directory(local: LocalFacts) -> dict[str, datetime]:
    times = {"started": local.started.get("started_at"), "ended": local.exit.get("ended_at")}
    read = {name: at for name, text in times.items() if (at := _read(text)) is not None}
    lines, _ = read_batch(local.path / files.JOURNAL_FILE, local.path.name, 0, BATCH_BYTES)
    first = next(({"first line": line.at} for line in lines if line.stream != "flowherd"), {})
    return {**read, **first, **_times(local.exit.get("phases"))}


def _times(given: Any) -> dict[str, datetime]:
    return {name.replace("_", " "): datetime.fromtimestamp(at_s, timezone.utc) for name, at_s in known_phases(given)}


def _read(text: object) -> datetime | None:
    try:
        return read_time(str(text), naive="utc")
    except ValueError:
        return None


def as_rows(found: Sequence[Phase]) -> list[tuple[str, str, str, str]]:
    """Return the rows of the table: step, milliseconds since due and since the step before, and what it means."""
    return [
        (step.phase, _shown(step.since_due_ms), _shown(step.since_previous_ms), STEPS[step.phase])
        for step in found
        if step.at is not None
    ]


def _shown(value_ms: float | None) -> str:
    return "" if value_ms is None else f"{value_ms:.1f}"


def as_json(found: Sequence[Phase], identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the phases as one object; `identity` is the beginning of it."""
    return {**identity, "phases": [vars(step) for step in found]}
