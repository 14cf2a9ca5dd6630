"""Reports that are sent long after the event: their message says when it happened.

Prefect's own servers, 0.x to 3, date a state when they receive it, and no field of the request changes that. The
embedded server takes the time from the state's context.
"""

from __future__ import annotations

from datetime import datetime, timezone

from flowherd.states import RunState
from flowherd.values import StateReport

#: Delay after which a report says when it happened, seconds.
_LATE_S = 30.0


def dated_message(report: StateReport) -> str:
    """Return the report's message; if the report is late, with the time of the event."""
    late_s = (datetime.now(timezone.utc) - report.at).total_seconds()
    if late_s < _LATE_S or report.state is RunState.SUBMITTED:
        return report.message
    return f"{report.message} (at {report.at:%Y-%m-%d %H:%M:%S} UTC, reported later)"
