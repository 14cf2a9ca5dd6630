"""conf/flowherd.toml lists every setting with its default, so that a copy of it changes nothing."""

from __future__ import annotations

import re
from pathlib import Path

from flowherd.config import Source, load_settings
from flowherd.config.catalogue import SETTINGS, value_of
from flowherd.config.conf_files import conf_directory

FILE = conf_directory() / "flowherd.toml"
ASSIGNMENT = re.compile(r"^# (\w+ = .*)$", re.MULTILINE)


def test_a_copy_of_the_file_changes_nothing(tmp_path: Path) -> None:
    loaded = load_settings(environ={"HOME": str(tmp_path)}, config_file=FILE)
    assert {origin.source for origin in loaded.origins.values()} == {Source.DEFAULT}


def test_the_file_contains_every_setting_with_its_default(tmp_path: Path) -> None:
    """Without its comment signs it sets everything: to the default, or to an example if there is no default."""
    text = FILE.read_text()
    path = tmp_path / "config.toml"
    path.write_text(ASSIGNMENT.sub(r"\1", text))
    path.chmod(0o600)
    loaded = load_settings(environ={"HOME": str(tmp_path)}, config_file=path)
    for dotted, setting in SETTINGS.items():
        if dotted == "home":
            continue
        assert loaded.origins[dotted].source is Source.FILE, f"{dotted} is not in {FILE}"
        value = value_of(loaded.settings, dotted)
        assert value == setting.default or (setting.default is None and value is not None), dotted
