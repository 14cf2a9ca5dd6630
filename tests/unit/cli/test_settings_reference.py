"""docs/reference/settings.md is what the script makes of the settings as they are now."""

from __future__ import annotations

from pathlib import Path

from flowherd.cli.settings_reference import settings_reference
from flowherd.config.catalogue import RUNTIME_KEYS, SETTINGS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "settings.md"


def test_the_page_is_current() -> None:
    """Otherwise make it again: python -m flowherd.cli.settings_reference > docs/reference/settings.md"""
    assert PAGE.read_text(encoding="utf-8") == settings_reference()


def test_every_setting_has_a_description() -> None:
    missing = [
        info.dotted for info in (*SETTINGS.values(), *RUNTIME_KEYS.values()) if not info.description.endswith(".")
    ]
    assert missing == []


def test_the_page_has_every_setting_and_fits_its_width() -> None:
    lines = settings_reference().splitlines()
    for dotted in SETTINGS:
        assert f"### `{dotted}`" in lines
    assert [line for line in lines if len(line) > 100] == []
