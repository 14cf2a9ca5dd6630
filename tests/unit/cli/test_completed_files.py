"""Completion of the project files that `apply` takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowherd.cli.completion import toml_files


def test_toml_files_are_completed_and_directories_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deploy").mkdir()
    for name in ("flows.toml", "flows.txt", "deploy/shop.toml", "deploy/bad\nname.toml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert toml_files("") == ["deploy/", "flows.toml"]
    assert toml_files("fl") == ["flows.toml"]
    assert toml_files("deploy/") == ["deploy/shop.toml"]
    assert toml_files(f"{tmp_path}/f") == [f"{tmp_path}/flows.toml"]
    assert toml_files("nowhere/x") == []
