"""A backup refuses what would lose something, and leaves nothing half done."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flowherd.errors import ConfigurationError
from flowherd_server.maintenance import back_up
from flowherd_server.store.database import FILE_NAME, Database


@pytest.fixture
def data_dir(made_database: Path, tmp_path: Path) -> Path:
    place = tmp_path / "data"
    place.mkdir()
    (place / FILE_NAME).write_bytes(made_database.read_bytes())
    return place


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (f"data/{FILE_NAME}", "is the database itself"),
        ("link", "is the database itself"),
        ("data", "is a directory; name a file in it"),
        ("nowhere/copy", "cannot be copied to .*No such file"),
    ],
)
def test_a_target_that_cannot_be_right_is_refused_even_with_force(data_dir: Path, target: str, reason: str) -> None:
    (data_dir.parent / "link").symlink_to(data_dir / FILE_NAME)
    before = (data_dir / FILE_NAME).read_bytes()
    with pytest.raises(ConfigurationError, match=reason):
        back_up(data_dir, data_dir.parent / target, force=True)
    assert (data_dir / FILE_NAME).read_bytes() == before
    assert {path.name for path in data_dir.parent.iterdir()} == {"data", "link"}


def test_a_link_to_a_file_of_somebody_else_is_replaced_and_not_followed(data_dir: Path) -> None:
    link, other = data_dir.parent / "copy", data_dir.parent / "other"
    other.write_text("not ours")
    link.symlink_to(other)
    with pytest.raises(ConfigurationError, match="exists; name another file"):
        back_up(data_dir, link, force=False)
    back_up(data_dir, link, force=True)
    assert other.read_text() == "not ours" and not link.is_symlink()


def test_a_copy_of_a_damaged_database_is_not_called_a_backup(data_dir: Path, tmp_path: Path) -> None:
    with closing(Database(data_dir / FILE_NAME)):
        pass
    with closing(sqlite3.connect(data_dir / FILE_NAME)) as connection:
        [page] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'tenant'").fetchone()
    with (data_dir / FILE_NAME).open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(ConfigurationError, match=r"damaged|malformed"):
        back_up(data_dir, tmp_path / "copy", force=False)
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


def test_a_database_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"there is no database {tmp_path}/{FILE_NAME} to copy"):
        back_up(tmp_path, tmp_path / "copy", force=False)
