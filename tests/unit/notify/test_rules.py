"""Which notifications go to which channels."""

from __future__ import annotations

from typing import Any

import pytest

from flowherd.notify.kinds import Kind
from flowherd.notify.rules import KEYS, Subject, channels_for, read_rule, unknown_channels

NIGHTLY = Subject(flow="nightly-load", project="shop", labels=("warehouse", "prod"))
CHANNELS = ("ops", "mail")


@pytest.mark.parametrize(
    ("rule", "kind", "chosen"),
    [
        ({"on": ["failed"]}, Kind.FAILED, ["ops", "mail"]),
        ({"on": ["failed"], "to": ["mail"]}, Kind.FAILED, ["mail"]),
        ({"on": ["failed"]}, Kind.LATE, []),
        ({"on": ["failed"], "flows": ["day*", "night*"]}, Kind.FAILED, ["ops", "mail"]),
        ({"on": ["failed"], "flows": ["load"]}, Kind.FAILED, []),
        ({"on": ["failed"], "labels": ["test", "prod"]}, Kind.FAILED, ["ops", "mail"]),
        ({"on": ["failed"], "labels": ["test"]}, Kind.FAILED, []),
    ],
)
def test_a_rule_chooses_by_kind_flow_and_label(rule: dict[str, Any], kind: Kind, chosen: list[str]) -> None:
    assert channels_for([read_rule(rule)], CHANNELS, kind, NIGHTLY) == chosen


def test_a_channel_that_two_rules_choose_gets_one_message() -> None:
    rules = [read_rule({"on": ["failed"], "to": ["mail"]}), read_rule({"on": ["failed", "late"]})]
    assert channels_for(rules, CHANNELS, Kind.FAILED, NIGHTLY) == ["ops", "mail"]


def test_a_rule_of_a_project_is_about_its_flows_alone() -> None:
    rule = read_rule({"on": ["failed", "agent-away"]}, project="shop")
    assert channels_for([rule], CHANNELS, Kind.FAILED, NIGHTLY)
    assert not channels_for([rule], CHANNELS, Kind.FAILED, Subject(flow="nightly-load", project="bank"))
    assert not channels_for([rule], CHANNELS, Kind.AGENT_AWAY, Subject(labels=("prod",)))


def test_the_end_is_told_to_those_who_wanted_the_beginning() -> None:
    both, only_end = read_rule({"on": ["late", "recovered"]}), read_rule({"on": ["recovered"]})
    assert both.wants(Kind.RECOVERED, NIGHTLY, over=Kind.LATE)
    assert not both.wants(Kind.RECOVERED, NIGHTLY, over=Kind.STUCK)
    assert only_end.wants(Kind.RECOVERED, NIGHTLY, over=Kind.FAILED)
    assert not only_end.wants(Kind.RECOVERED, NIGHTLY, over=Kind.LATE)


def test_a_failure_like_the_one_before_is_only_for_rules_on_every_failure() -> None:
    assert not read_rule({"on": ["failed"]}).wants(Kind.FAILED, NIGHTLY, again=True)
    assert read_rule({"on": ["failed"], "every_failure": True}).wants(Kind.FAILED, NIGHTLY, again=True)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("failed", "a rule is a table"),
        ({}, "on: must name at least one of failed, recovered"),
        ({"on": ["broken"]}, "'broken' is none of failed"),
        ({"on": "failed"}, "on: must be a list of texts"),
        ({"on": ["failed"], "flow": ["a"]}, "flow: there is no such key; a rule has on, flows"),
        ({"on": ["failed"], "flows": [1]}, "flows: must be a list of texts"),
        ({"on": ["failed"], "every_failure": "yes"}, "every_failure: must be true or false"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_with_its_key(value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_rule(value)


def test_a_rule_reads_as_it_was_written() -> None:
    rule = read_rule({"on": ["late", "failed"], "flows": ["a*"], "to": ["ops"]}, project="shop")
    assert tuple(rule.as_json()) == KEYS
    assert read_rule(rule.as_json(), "shop") == rule


def test_a_channel_that_there_is_not_is_named_with_those_that_there_are() -> None:
    rule = read_rule({"on": ["failed"], "to": ["pager"]})
    assert unknown_channels(rule, CHANNELS) == (
        "to: there is no channel 'pager' in the settings notify.channels; there are mail, ops"
    )
    assert not unknown_channels(read_rule({"on": ["failed"]}), CHANNELS)
