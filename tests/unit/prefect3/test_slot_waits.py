"""Postponed runs of a deployment whose limit is reached are proposed at the pace of the server's answers."""

from __future__ import annotations

import time
import uuid

import pytest

from flowherd.backends.prefect3.run_row import RunRow
from flowherd.backends.prefect3.slot_waits import (
    CROWDED,
    PAUSE_S,
    PROBES,
    PUSHED,
    PUSHED_OF_FULL,
    SlotWaits,
)

LIMITED, OTHER = "limited", "other"


def rows(count: int, deployment: str | None = LIMITED) -> list[RunRow]:
    return [
        RunRow(
            id=str(uuid.uuid4()),
            name="run",
            flow_id="flow",
            deployment_id=deployment,
            state_type="SCHEDULED",
            state_name="Scheduled",
        )
        for _ in range(count)
    ]


def test_after_a_refusal_the_other_runs_of_the_deployment_are_left_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits = SlotWaits()
    limited, others = rows(50), [*rows(2, OTHER), *rows(2, None)]
    assert waits.paced([*limited, *others], 54) == ([*limited, *others], None)
    waits.refused(LIMITED)
    assert waits.is_left(limited[1]) and not waits.is_left(others[0]), "those of the same poll too"
    kept, pause_s = waits.paced([*limited, *others], 54)
    assert kept == others
    assert pause_s is not None and 0 < pause_s <= PAUSE_S
    later_s = time.monotonic() + PAUSE_S
    monkeypatch.setattr("time.monotonic", lambda: later_s)
    kept, pause_s = waits.paced([*limited, *others], 54)
    assert (kept, pause_s) == ([*others, *limited[:PROBES]], PAUSE_S), "the oldest look whether there is room now"
    waits.refused(LIMITED)
    assert [waits.is_left(row) for row in limited[: PROBES + 1]] == [False] * PROBES + [True]


def test_an_accepted_claim_ends_the_pause() -> None:
    waits = SlotWaits()
    waits.refused(LIMITED)
    waits.accepted(LIMITED)
    limited = rows(9)
    assert waits.paced(limited, 9) == (limited, None)
    assert not waits.is_left(limited[0])


def test_runs_that_wait_never_hide_others_in_a_long_list_and_hold_up_none() -> None:
    waits = SlotWaits()
    limited, (other,) = rows(199), rows(1, OTHER)
    waits.paced(limited, 200)
    waits.refused(LIMITED)
    assert sum(not waits.is_left(row) for row in limited) == PUSHED_OF_FULL, "of a poll that came before the refusal"
    for listed, pushed in ((CROWDED - 1, 0), (CROWDED, PUSHED), (200, PUSHED_OF_FULL)):
        kept, _ = waits.paced([*limited, other], listed)
        assert kept == [other, *limited[:pushed]]
