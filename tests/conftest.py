"""For all tests: default signals, an environment without the caller's settings, temporary homes, no process left."""

from __future__ import annotations

import gc
import itertools
import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.scheduling import UnitScheduling, rank
from tests.support.commands import command_servers
from tests.support.leftovers import none_left
from tests.support.processes import give_children_default_signals
from tests.support.programs import programs

give_children_default_signals()
# A test leaves little garbage, and thousands of modules' objects are looked through each time.
gc.set_threshold(100_000, 20, 100)

# A slow machine is no failure.
hypothesis.settings.register_profile("usual", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("quick", hypothesis.settings.get_profile("usual"), max_examples=5)
hypothesis.settings.load_profile("usual")

#: With --full, timeouts are so many times as long.
_MORE_TIME = 4
_FOREIGN = ("PREFECT_", "FLOWHERD__", "FLOWHERD_HOME", "NOTIFY_SOCKET", "SUPERVISOR_")
_PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"})


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run tests with the marker `full`, too")


def pytest_configure(config: pytest.Config) -> None:
    """Look for interpreters once, before the processes start that run tests side by side."""
    if getattr(config.option, "numprocesses", None):
        from tests.support.runner import interpreters

        interpreters()


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
        for forking in (command_servers, programs):
            forking.environ = None if request.config.getoption("--full") else dict(os.environ)
        yield
        command_servers.close()
        programs.close()


class Homes:
    """Empty directories, one after the other. A call of mktemp for each test would look through all earlier ones."""

    def __init__(self, place: Path) -> None:
        self._directories = (place / str(number) for number in itertools.count())
        self._last: Path | None = None

    def new(self) -> Path:
        """Return one that nobody has had."""
        directory = next(self._directories)
        directory.mkdir()
        return directory

    def empty(self) -> Path:
        """Return the last one again as long as nothing is in it, because most unit tests write nothing."""
        if self._last is None or any(self._last.iterdir()):
            self._last = self.new()
        return self._last


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Homes:
    return Homes(tmp_path_factory.mktemp("homes"))


@pytest.fixture(autouse=True)
def clean_environment(request: pytest.FixtureRequest, homes: Homes) -> Iterator[Path]:
    """Keep the caller's settings from the test; HOME and FLOWHERD_HOME are empty directories.

    Check at the end that what the test itself has started has ended; unit tests are left to the check of the session.
    One fixture without others that are made for each test: there are thousands of unit tests.
    """
    unit = request.node.nodeid.startswith("tests/unit/")
    with nullcontext() if unit else none_left():
        foreign = [name for name in os.environ if name.startswith(_FOREIGN) or name.upper() in _PROXIES]
        before = {name: os.environ.get(name) for name in (*foreign, "HOME", "FLOWHERD_HOME")}
        for name in foreign:
            del os.environ[name]
        home = homes.empty() if unit else homes.new()
        os.environ["HOME"] = str(home)
        os.environ["FLOWHERD_HOME"] = str(home / "flowherd")
        yield home / "flowherd"
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@pytest.fixture
def no_process_left(clean_environment: Path) -> None:
    """Name what `clean_environment` checks, for fixtures whose processes have to end before that."""
