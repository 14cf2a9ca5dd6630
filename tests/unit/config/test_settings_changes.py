"""What differs between two readings of the settings, and what an agent takes over of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowherd.agent.reload import counts_at_once
from flowherd.config import load_settings
from flowherd.config.catalogue import SETTINGS
from flowherd.config.reload_report import Change, ReloadReport
from flowherd.config.settings_changes import changed_settings, taking_over


def test_single_values_are_taken_over_with_their_origins_and_all_others_stay(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    before = load_settings({"agent.limit": 2}, environ=environ)
    later = load_settings({"agent.limit": 3, "agent.grace": 1.0, "runs.limits.processes": 9}, environ=environ)
    assert changed_settings(before.settings, later.settings) == ["agent.limit", "agent.grace", "runs.limits.processes"]
    merged = taking_over(before, later, ["agent.grace", "runs.limits.processes"])
    assert changed_settings(merged.settings, later.settings) == ["agent.limit"]
    assert changed_settings(before.settings, merged.settings) == ["agent.grace", "runs.limits.processes"]
    assert merged.origins["agent.grace"] == later.origins["agent.grace"] != before.origins["agent.grace"]


def test_a_report_shows_values_but_no_secret(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    before = load_settings({"cloud.agent.auth_token": "first-secret", "agent.limit": 2}, environ=environ)
    later = load_settings({"cloud.agent.auth_token": "second-secret"}, environ=environ)
    changes = [Change.of(name, before, later) for name in ("cloud.agent.auth_token", "agent.limit")]
    report = ReloadReport(changed=changes[1:], needs_restart=changes[:1])
    assert [text for _, text in report.lines()] == [
        "Reloaded the settings: 1 changed, 1 need a restart, 0 refused",
        "Changed: agent.limit is not set, was 2",
        "Needs a restart: cloud.agent.auth_token has a new value, which is not shown",
    ]
    assert "secret" not in str(report.as_json()).replace("secrets", "")


@pytest.mark.parametrize("name", ["agent.limit", "runs.limits.memory_bytes", "logging.file", "runtimes"])
def test_what_counts_at_once_is_a_setting(name: str) -> None:
    assert name in SETTINGS
    assert counts_at_once(name)
