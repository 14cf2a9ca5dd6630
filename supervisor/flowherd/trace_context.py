"""Ids of the traces of runs, which follow from the run: if you know a run, you can find its trace.

The formats are those of W3C Trace Context (https://www.w3.org/TR/trace-context/).
"""

from __future__ import annotations

import hashlib
import uuid

#: Variable from which OpenTelemetry's libraries and tools take the span that theirs belong to.
TRACEPARENT = "TRACEPARENT"
#: The span of the user's code, and the name of the span of the whole attempt.
RUN_SPAN, ROOT_SPAN = "run", ""


def trace_id(flow_run_id: str) -> int:
    """Return the id of a run's trace: that of the run, which is as long; all attempts share it."""
    try:
        found = uuid.UUID(flow_run_id).int
    except ValueError:
        found = 0
    return found or int.from_bytes(hashlib.sha256(flow_run_id.encode()).digest()[:16], "big") or 1


def span_id(flow_run_id: str, attempt: str, name: str) -> int:
    """Return the id of a span of one attempt at a run."""
    digest = hashlib.sha256(f"{flow_run_id}/{attempt}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") or 1


def traceparent(flow_run_id: str, attempt: str) -> str:
    """Return what TRACEPARENT is for the processes of one attempt at a run: their spans are below the run's."""
    return f"00-{trace_id(flow_run_id):032x}-{span_id(flow_run_id, attempt, RUN_SPAN):016x}-01"
