"""How tests are distributed over worker processes (tests/scheduling.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scheduling import LONGEST, rank, unit

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("node_id", "name"),
    [
        ("tests/unit/test_states.py::test_a[x-1.5]", "tests/unit/test_states.py"),
        ("tests/peers/a/test_b.py::test_c[0.13.1-parameters]", "tests/peers/a/test_b.py 0.13.1"),
        ("tests/peers/a/test_b.py::test_c[pause-Paused-1.4.1]", "tests/peers/a/test_b.py 1.4.1"),
        ("tests/faults/test_points.py::test_c[embedded-after-claim]", "tests/faults/test_points.py embedded"),
    ],
)
def test_a_unit_is_a_file_or_the_part_of_it_that_shares_a_server(node_id: str, name: str) -> None:
    assert unit(node_id) == name


def test_long_units_come_first_and_units_are_not_mixed() -> None:
    ids = ["tests/unit/test_a.py::test_1", f"tests/peers/{LONGEST[1]}::test_2", "tests/peers/test_a.py::test_3"]
    assert sorted(ids, key=rank) == [ids[1], ids[2], ids[0]]
    versions = ["tests/peers/test_b.py::test_1[1.4.1]", "tests/peers/test_b.py::test_2[0.13.1]"]
    assert sorted(versions, key=rank) == versions[::-1]


def test_the_long_units_exist() -> None:
    assert [part for part in LONGEST if not list((ROOT / "tests").rglob(part))] == []
