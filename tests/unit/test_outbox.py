"""The outbox of a run: what a damaged one is refused for, whatever JSON it holds."""

from __future__ import annotations

from typing import Any

import pytest

from flowherd.host.store.outbox import outbox_from_json

REPORT = {"state": "Running", "message": "going", "at": "2026-01-01T00:00:00+00:00"}
OUTBOX = {"reports": [REPORT], "final": False, "state": "Running"}


def test_a_whole_one_is_read() -> None:
    (report,) = outbox_from_json(OUTBOX, "the-run").reports
    assert (report.flow_run_id, report.message) == ("the-run", "going")


@pytest.mark.parametrize(
    "damaged",
    [
        {"reports": ["text"]},
        {"reports": [None]},
        {"reports": REPORT},
        {"reports": 1},
        {"reports": [{**REPORT, "at": "noon"}]},
        {"reports": [{**REPORT, "pid": -1}]},
        {"final": True},
        {"state": "Success"},
    ],
    ids=str,
)
def test_a_damaged_one_is_refused(damaged: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, OverflowError)):
        outbox_from_json({**OUTBOX, **damaged}, "the-run")
