"""For all tests: an environment without this person's own settings, and homes that are temporary."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.support.leftovers import none_left
from tests.support.processes import give_children_default_signals

give_children_default_signals()

# A busy host is slow, not wrong.
hypothesis.settings.register_profile("any host", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("any host")

#: Files that take longest: what begins last keeps everybody waiting who has nothing left to do.
_LONGEST = (
    "peers3/test_worker.py",
    "peers3/test_fleet.py",
    "peers/test_flows.py",
    "peers3/test_weaknesses.py",
    "faults/test_points_prefect3.py",
    "peers3/test_server_away.py",
    "faults/test_points.py",
    "faults/test_short_run.py",
    "peers3/test_services.py",
)
_DIRECTORIES = ("peers3", "peers", "faults", "acceptance", "hostile", "processes", "unit")
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; the tests of a file stay together and in their order."""
    items.sort(key=lambda item: _rank(item.path.relative_to(_HERE).as_posix()))


def _rank(file: str) -> tuple[int, int, str]:
    directory = file.partition("/")[0]
    long = _LONGEST.index(file) if file in _LONGEST else len(_LONGEST)
    return long, _DIRECTORIES.index(directory) if directory in _DIRECTORIES else 0, file


@pytest.fixture(scope="session", autouse=True)
def no_process_left_by_fixtures() -> Iterator[None]:
    """Check at the end of the session that what fixtures of a wider scope than a test have started has ended."""
    with none_left():
        yield


@pytest.fixture(autouse=True)
def no_process_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check that what the test itself has started has ended. Unit tests are left to the check of the session."""
    if request.path.is_relative_to(_HERE / "unit"):
        yield
        return
    with none_left():
        yield


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep the caller's settings from the test; HOME and FLOWHERD_HOME are empty directories."""
    for name in list(os.environ):
        if name.startswith(("PREFECT_", "FLOWHERD__", "FLOWHERD_HOME", "NOTIFY_SOCKET", "SUPERVISOR_")):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("FLOWHERD_HOME", str(home / "flowherd"))
    return home / "flowherd"
