"""Fork servers for the tests of the child side."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.runner import ForkServer, interpreters


@pytest.fixture(autouse=True)
def nothing_left(no_process_left: None) -> None:
    """Every test here proves that it leaves no process behind."""


@pytest.fixture
def start_fork_server(nothing_left: None, tmp_path: Path) -> Iterator[Callable[..., ForkServer]]:
    """Starts fork servers, and closes them at the end."""
    started: list[ForkServer] = []

    def start(interpreter: str = sys.executable, **options: object) -> ForkServer:
        started.append(ForkServer(interpreter, tmp_path / "runs", **options))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def fork_server(start_fork_server: Callable[..., ForkServer]) -> ForkServer:
    """A fork server under the interpreter of this test run."""
    return start_fork_server()


@pytest.fixture(params=interpreters(), ids=lambda path: Path(path).parent.parent.name + "-" + Path(path).name)
def any_fork_server(request: pytest.FixtureRequest, start_fork_server: Callable[..., ForkServer]) -> ForkServer:
    """A fork server under each interpreter that is installed here."""
    return start_fork_server(request.param)
