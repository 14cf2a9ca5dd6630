"""What a flow can do to what is not its own, at each level: tried, and judged from outside. docs/security.md has it.

The usual run tries each level once for each kind of agent, in turn as a command and in the fork; --full all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.attack_scene import Scene, scene
from tests.hostile.attack_stage import ORDINARY, ROOT, USER, Who
from tests.hostile.attack_table import COLUMNS, ROWS, lines
from tests.support.leftovers import none_left
from tests.support.unprivileged import needs_compiler, needs_root, needs_setpriv

pytestmark = [needs_root, needs_setpriv, needs_compiler, pytest.mark.timeout(300)]

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
_LETTERS = {ROOT: "R", USER: "U", ORDINARY: "O"}
#: Column and whether the flow runs in the fork itself, for the usual run.
_USUAL = {
    ROOT: {("private", False), ("sealed", True)},
    USER: set(),
    ORDINARY: {("none", False), ("private", True), ("sealed", False), ("sealed, network none", True)},
}
_CASES = [
    pytest.param(
        who,
        column,
        in_fork,
        marks=[] if (column, in_fork) in _USUAL[who] else [pytest.mark.full],
        id=f"{who.name}, {column}, {'in the fork' if in_fork else 'as a command'}",
    )
    for who in (ROOT, USER, ORDINARY)
    for column in COLUMNS
    for in_fork in (False, True)
]


class Scenes:
    """The scene of the user whose flows attack now; one at a time."""

    def __init__(self) -> None:
        self._open: Any = None
        self._who: Who | None = None

    def of(self, who: Who) -> Scene:
        if who != self._who:
            self.close()
            self._open = self._make(who)
            self._who = who
            self._scene: Scene = next(self._open)
        return self._scene

    def close(self) -> None:
        if self._open is not None:
            next(self._open, None)
        self._open = self._who = None

    @staticmethod
    def _make(who: Who) -> Iterator[Scene]:
        with none_left(), scene(who) as found:
            yield found


@pytest.fixture(scope="module")
def scenes() -> Iterator[Scenes]:
    found = Scenes()
    yield found
    found.close()


@pytest.mark.parametrize(("who", "column", "in_fork"), _CASES)
def test_an_attack_succeeds_only_where_the_page_says_so(scenes: Scenes, who: Who, column: str, in_fork: bool) -> None:
    verdicts = scenes.of(who).attack(COLUMNS[column], in_fork=in_fork)
    assert set(verdicts) == set(ROWS)
    expected = {name: _LETTERS[who] in row.by_column()[column] for name, row in ROWS.items()}
    wrong = [
        f"{name} {'succeeded' if verdict.succeeded else 'failed'}: {verdict.detail}"
        for name, verdict in verdicts.items()
        if verdict.succeeded != expected[name]
    ]
    assert not wrong, "\n".join(wrong)


def test_the_page_has_the_table() -> None:
    assert "\n".join(lines()) in PAGE.read_text(), "python -m tests.hostile.attack_table prints it"
