"""For all tests: default signals, an environment without the caller's settings, temporary homes, no process left."""

from __future__ import annotations

import gc
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.scheduling import UnitScheduling, rank
from tests.support.commands import command_servers
from tests.support.leftovers import none_left
from tests.support.processes import give_children_default_signals

give_children_default_signals()
# A test leaves little garbage, and thousands of modules' objects are looked through each time.
gc.set_threshold(100_000, 20, 100)

# A slow machine is no failure.
hypothesis.settings.register_profile("usual", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("quick", hypothesis.settings.get_profile("usual"), max_examples=5)
hypothesis.settings.load_profile("usual")

#: With --full, timeouts are so many times as long.
_MORE_TIME = 4
_HERE = Path(__file__).parent
_FOREIGN = ("PREFECT_", "FLOWHERD__", "FLOWHERD_HOME", "NOTIFY_SOCKET", "SUPERVISOR_")
_PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"})


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run tests with the marker `full`, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests with the marker `full` unless they are asked for; sort the others by their units.

    With them, a test may wait for many more runs than its timeout allows for.
    """
    if config.getoption("--full"):
        for item in items:
            marker = item.get_closest_marker("timeout")
            if marker is not None:
                item.add_marker(pytest.mark.timeout(_MORE_TIME * marker.args[0]), append=False)
    else:
        left_out = [item for item in items if item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("full")]
    items.sort(key=lambda item: rank(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> UnitScheduling:
    return UnitScheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def no_process_left_by_fixtures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check at the end of the session that what fixtures of a wider scope than a test have started has ended."""
    with none_left():
        command_servers.environ = None if request.config.getoption("--full") else dict(os.environ)
        yield
        command_servers.close()


@pytest.fixture(autouse=True)
def no_process_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check that what the test itself has started has ended. Unit tests are left to the check of the session."""
    if request.path.is_relative_to(_HERE / "unit"):
        yield
        return
    with none_left():
        yield


@pytest.fixture(scope="session")
def new_homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Empty directories, one after the other. A call of mktemp for each test would look through all earlier ones."""
    place = tmp_path_factory.mktemp("homes")
    return (place / str(number) for number in itertools.count())


@pytest.fixture(scope="session")
def homes_of_unit_tests(new_homes: Iterator[Path]) -> Iterator[Path]:
    """Empty directories: the last one again as long as nothing is in it, because most unit tests write nothing."""
    return _empty_directories(new_homes)


def _empty_directories(directories: Iterator[Path]) -> Iterator[Path]:
    for directory in directories:
        directory.mkdir()
        while not any(directory.iterdir()):
            yield directory


@pytest.fixture(autouse=True)
def clean_environment(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    new_homes: Iterator[Path],
    homes_of_unit_tests: Iterator[Path],
) -> Path:
    """Keep the caller's settings from the test; HOME and FLOWHERD_HOME are empty directories."""
    for name in list(os.environ):
        if name.startswith(_FOREIGN) or name.upper() in _PROXIES:
            monkeypatch.delenv(name)
    if request.path.is_relative_to(_HERE / "unit"):
        home = next(homes_of_unit_tests)
    else:
        home = next(new_homes)
        home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("FLOWHERD_HOME", str(home / "flowherd"))
    return home / "flowherd"
