"""For all tests: an environment without this person's own settings, and homes that are temporary."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.leftovers import none_left


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No setting of the caller's reaches a test; HOME and FLOWHERD_HOME are empty directories."""
    for name in list(os.environ):
        if name.startswith(("PREFECT_", "FLOWHERD__", "FLOWHERD_HOME", "NOTIFY_SOCKET", "SUPERVISOR_")):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("FLOWHERD_HOME", str(home / "flowherd"))
    return home / "flowherd"


@pytest.fixture
def no_process_left() -> Iterator[None]:
    """Whatever the test starts is gone when it ends."""
    with none_left():
        yield
