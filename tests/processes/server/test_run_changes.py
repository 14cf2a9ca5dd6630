"""A run that is run again with changes: what its form shows, keeps and sends."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
import requests

from tests.support.dialect import Client

pytestmark = pytest.mark.usefixtures("no_process_left")

SIGNATURE: list[dict[str, Any]] = [
    {"name": "target", "type": "text", "required": True},
    {"name": "days", "type": "integer", "default": 14},
    {"name": "password", "type": "text", "required": True},
    {"name": "code", "type": "any", "default": None},
]
GIVEN = {"target": "/srv", "days": 30, "password": "hunter2", "code": "7"}


@pytest.fixture
def flow(client: Client) -> str:
    """A flow with parameters of several types."""
    names = [each["name"] for each in SIGNATURE]
    storage = {"type": "Python", "ref": "/x.py:f", "parameters": names, "signature": SIGNATURE}
    return client.flow(storage=storage)


def question(client: Client, run_id: str) -> tuple[str, dict[str, str]]:
    """The page that asks, and the fields of its form as a browser would send them."""
    html = client.server.get(f"/runs/{run_id}/changed").text
    inputs = re.findall(r"<input ([^>]*)>", html.partition("data-question")[2])
    found = {}
    for each in inputs:
        attributes = dict(re.findall(r'([a-z-]+)="([^"]*)"', each))
        found[attributes["name"]] = unescape(attributes.get("value", ""))
    if "<textarea" in html:
        text = re.search(r"<textarea[^>]*>([^<]*)", html)
        found["others"] = unescape(text[1]) if text else ""
    return html, found


def sent(client: Client, run_id: str, **changes: str) -> Any:
    """What a run is made of that the form creates, with changes of its fields."""
    _, form = question(client, run_id)
    done = requests.post(f"{client.server.url}/runs/{run_id}/changed", data={**form, **changes}, timeout=30)
    new = re.search("/runs/([0-9a-f-]{36})", done.url)
    assert new is not None, done.text
    return client.run(new[1], "repeats parameters labels run_config state")


def test_the_form_shows_what_the_run_had_but_no_secret(client: Client, flow: str) -> None:
    html, form = question(client, client.create_run(flow, parameters=GIVEN))
    assert (form["p.target"], form["p.days"], form["p.code"]) == ("/srv", "30", '"7"')
    assert form["p.password"] == ""
    assert "hunter2" not in html
    assert "Not shown; empty is what the run had." in html


def test_what_is_not_changed_stays_as_it_was_whatever_its_text_looks_like(client: Client, flow: str) -> None:
    run_id = client.create_run(flow, parameters=GIVEN, labels=["own"])
    new = sent(client, run_id)
    assert new["parameters"] == GIVEN
    assert new["repeats"] == run_id
    assert new["labels"] == ["own"]


def test_what_is_changed_is_read_by_its_type(client: Client, flow: str) -> None:
    changes = {"p.days": "7", "p.password": "other", "p.target": "/home", "labels": "a, b"}
    new = sent(client, client.create_run(flow, parameters=GIVEN), **changes)
    assert new["parameters"] == {"target": "/home", "days": 7, "password": "other", "code": "7"}
    assert new["labels"] == ["a", "b"]


def test_what_is_wrong_is_said_and_nothing_is_created(client: Client, flow: str) -> None:
    run_id = client.create_run(flow, parameters=GIVEN)
    _, form = question(client, run_id)
    answer = requests.post(f"{client.server.url}/runs/{run_id}/changed", data={**form, "p.days": "x"}, timeout=30)
    assert answer.status_code == 400
    assert "days" in answer.text
    assert 'value="x"' in answer.text
    assert not client.ask(f'{{ flow_run(where: {{repeats: {{_eq: "{run_id}"}}}}) {{ id }} }}')["flow_run"]


def test_parameters_without_a_field_are_lines_and_secrets_among_them_stay(client: Client) -> None:
    given = {"a": 1, "b": "2", "api_token": "hunter2"}
    run_id = client.create_run(client.flow(), parameters=given)
    html, form = question(client, run_id)
    assert form["others"].splitlines() == ["a=1", 'b="2"']
    assert "hunter2" not in html
    assert sent(client, run_id)["parameters"] == given
    changed = sent(client, run_id, others="a=2\r\nc=x")
    assert changed["parameters"] == {"a": 2, "c": "x", "api_token": "hunter2"}
