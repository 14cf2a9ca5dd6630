"""The processes of a run are shown as a tree, whatever was reported."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from flowherd.web.process_rows import MOST_SHOWN, cpu_time, process_rows


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int | None = None
    command: str = ""
    cpu_time_s: float | None = None
    memory_bytes: int | None = None


def drawn(*processes: Process) -> list[str]:
    return [f"{row.lines}{row.process.pid}" for row in process_rows(processes)]


def test_children_stand_below_their_parents() -> None:
    tree = drawn(Process(10, 1), Process(11, 10), Process(13, 11), Process(12, 10), Process(14, 11))
    assert tree == ["10", "├─ 11", "│  ├─ 13", "│  └─ 14", "└─ 12"]


def test_a_process_whose_parent_is_gone_stands_by_itself() -> None:
    assert drawn(Process(10, 1), Process(99, 50)) == ["10", "99"]


def test_processes_that_are_each_others_parents_end_the_tree_and_not_the_page() -> None:
    assert drawn(Process(1, 1), Process(2, 3), Process(3, 2)) == ["1"]


def test_only_so_many_are_shown() -> None:
    assert len(drawn(*(Process(n, n - 1) for n in range(2, 500)))) == MOST_SHOWN


@pytest.mark.parametrize(("seconds", "text"), [(None, ""), (4.9, "0:04"), (1610, "26:50"), (3723, "1:02:03")])
def test_cpu_time(seconds: float | None, text: str) -> None:
    assert cpu_time(seconds) == text
