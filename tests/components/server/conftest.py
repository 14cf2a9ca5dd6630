"""An empty database in a temporary file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flowherd_server.store.database import Database


@pytest.fixture(scope="session")
def made_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an empty database: to copy it is quicker than to carry out all migrations for each test."""
    path = tmp_path_factory.mktemp("database") / "empty.sqlite"
    Database(path).close()
    return path


@pytest.fixture
def database(made_database: Path, tmp_path: Path) -> Iterator[Database]:
    shutil.copy(made_database, tmp_path / "test.sqlite")
    with closing(Database(tmp_path / "test.sqlite")) as database:
        yield database
