"""The verdict on a run from what its own host knows of it."""

from __future__ import annotations

from datetime import datetime, timezone

from flowherd.agent.run_records import KnownRun
from flowherd.story.records import RunRecord
from flowherd.story.stuck import stuck_reason
from flowherd.story.verdict import EndFacts, LiveFacts, Verdict, verdict


def stuck_here(run: KnownRun, now: datetime) -> str:
    """Return why a run seems to be stuck; empty if it does not."""
    return "" if run.figures is None else stuck_reason(run.state, run.started_at, run.figures, None, now)


def verdict_here(run: KnownRun, now: datetime) -> Verdict:
    """Return the verdict on a run of this host."""
    record = RunRecord(
        id=run.id,
        name=run.name,
        state=run.state,
        message=run.message,
        flow=run.flow,
        labels=tuple(run.labels),
        agent_id=None,
        created=None,
        scheduled_start_time=None,
        start_time=run.started_at,
        end_time=run.ended_at,
    )
    account = run.account
    end = EndFacts(
        reason=run.reason or None,
        grade=run.grade or None,
        evidence=run.evidence,
        leftovers=account.leftovers if account is not None else (),
        leftovers_count=account.leftovers_count if account is not None else 0,
        survivors=account.survivors if account is not None else (),
    )
    figures = run.figures
    live = LiveFacts(
        stuck=stuck_here(run, now),
        last_line_at=_moment(figures.last_line_at) if figures is not None else None,
        memory_bytes=figures.memory_bytes if figures is not None else None,
        memory_limit_bytes=figures.memory_limit_bytes if figures is not None else None,
    )
    return verdict(record, now=now, end=end, live=live)


def _moment(at_s: float | None) -> datetime | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, timezone.utc)
