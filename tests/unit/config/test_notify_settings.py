"""The settings of notifications: channels, rules, and what is shown of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowherd.config import LoadedSettings, load_settings
from flowherd.config.catalogue import credentials
from flowherd.errors import ConfigurationError
from flowherd.notify.kinds import Kind

FILE = """
[[notify.channels]]
name = "ops"
webhook = "https://hooks.example.org/secret"
secret = "file:/etc/flowherd/hook.key"

[[notify.channels]]
name = "pager"
command = ["/usr/local/bin/page"]

[[notify.rules]]
on = ["failed", "recovered"]
flows = ["nightly*"]
to = ["ops"]
"""


def load(tmp_path: Path, text: str) -> LoadedSettings:
    path = tmp_path / "some.toml"
    path.write_text(text)
    return load_settings(environ={"HOME": str(tmp_path)}, config_file=path)


def test_a_file_has_channels_and_rules(tmp_path: Path) -> None:
    notify = load(tmp_path, FILE).settings.notify
    assert [(target.name, target.channel.kind) for target in notify.targets()] == [
        ("ops", "webhook"),
        ("pager", "command"),
    ]
    (rule,) = notify.checked_rules()
    assert (rule.on, rule.flows, rule.to) == (frozenset({Kind.FAILED, Kind.RECOVERED}), ("nightly*",), ("ops",))


def test_addresses_are_masked_and_count_as_credentials(tmp_path: Path) -> None:
    loaded = load(tmp_path, FILE)
    assert loaded.masked("notify.channels") == [
        {"name": "ops", "webhook": "********", "secret": "file:/etc/flowherd/hook.key"},
        {"name": "pager", "command": ["/usr/local/bin/page"]},
    ]
    assert credentials(loaded.settings) == ["https://hooks.example.org/secret"]
    assert "hooks.example.org" not in repr(loaded.settings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[notify.channels]]\nname = "a"', "exactly one of command, webhook, apprise"),
        ('[[notify.channels]]\nname = "a"\nwebhook = "https://x/secret"\napprise = "b://c"', "exactly one of"),
        ('[[notify.rules]]\nflows = ["a"]', "notify.rules"),
        ('[[notify.rules]]\non = ["broken"]', "it should be 'failed'"),
        ('[[notify.rules]]\non = ["failed"]\nflow = ["a"]', "Extra inputs"),
    ],
)
def test_what_makes_no_sense_is_refused_without_the_address(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as refusal:
        load(tmp_path, text)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FILE + '[[notify.rules]]\non = ["late"]\nto = ["nobody"]\n', "no channel 'nobody'.* there are ops, pager"),
        (FILE + '[[notify.channels]]\nname = "ops"\ncommand = ["a"]\n', "two channels 'ops'"),
    ],
)
def test_a_rule_needs_the_channels_that_it_names(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load(tmp_path, text).settings.notify.checked_rules()
