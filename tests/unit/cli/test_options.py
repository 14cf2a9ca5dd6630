"""Options that override settings: each knows its setting, and makes its value."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowherd.cli import exit_codes, isolation_options  # noqa: F401 - its options override settings too
from flowherd.cli.failures import CommandError
from flowherd.cli.options import FLAGS, OnStopChoice, require_work_pool, setting_overrides, settings_from
from flowherd.config.catalogue import SETTINGS
from flowherd.errors import ConfigurationError


def test_every_flag_belongs_to_a_setting_that_exists() -> None:
    assert set(FLAGS) <= set(SETTINGS)
    assert all(flag.startswith("--") for flag in FLAGS.values())


def test_options_become_values_of_their_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert setting_overrides(
        name="web", verbose=True, env=["A=b=c"], import_path=["lib"], on_stop=OnStopChoice.DRAIN, hostname_label=False
    ) == {
        "cloud.agent.name": "web",
        "cloud.agent.level": "DEBUG",
        "cloud.agent.env_vars": {"A": "b=c"},
        "agent.import_paths": [str(tmp_path / "lib")],
        "agent.on_stop": "drain",
        "agent.hostname_label": False,
    }


def test_the_options_of_isolation_are_the_floor_of_an_agent() -> None:
    loaded = settings_from(isolation="sealed", network="none")
    assert (loaded.settings.runs.isolation.level, loaded.settings.runs.isolation.network) == ("sealed", "none")
    with pytest.raises(ConfigurationError, match=r"from --isolation cannot be used: .*'none', 'private' or 'sealed'"):
        settings_from(isolation="much")


def test_an_option_that_is_not_given_overrides_nothing() -> None:
    given = setting_overrides(name=None, label=[], verbose=False, env=None, on_stop=None)
    assert set(given.values()) == {None}


def test_an_option_without_a_setting_is_a_mistake_of_the_command() -> None:
    with pytest.raises(KeyError):
        setting_overrides(keep=True)


def test_a_bad_value_names_the_option() -> None:
    with pytest.raises(ConfigurationError, match="from --limit cannot be used"):
        settings_from(limit=0)


def test_an_option_for_a_work_pool_needs_one() -> None:
    require_work_pool(settings_from(pool="machines"), "--work-queue")
    with pytest.raises(CommandError, match=r"--work-queue .* --pool") as caught:
        require_work_pool(settings_from(), "--work-queue")
    assert caught.value.exit_code == exit_codes.USAGE
