"""The pages of flows and schedules: what they tell, and what is started, paused and resumed on them."""

from __future__ import annotations

import re
import uuid
from html import unescape
from typing import Any
from urllib.parse import quote

import pytest
import requests

from tests.processes.server.test_page_events import is_part, stream
from tests.processes.server.test_pages import fields_of
from tests.support.dialect import Client

pytestmark = pytest.mark.usefixtures("no_process_left")

HOURLY = {"clocks": [{"type": "CronClock", "cron": "20 * * * *"}]}
SIGNATURE: list[dict[str, Any]] = [
    {"name": "region", "type": "text", "required": True},
    {"name": "rows", "type": "integer", "default": 50000},
    {"name": "dry", "type": "boolean", "default": False},
    {"name": "mode", "type": "choice", "choices": ["fast", "slow"], "default": "slow"},
    {"name": "day", "type": "date", "default": None},
]
PYTHON = {"type": "Python", "ref": "m:f", "parameters": [each["name"] for each in SIGNATURE], "signature": SIGNATURE}


def name_of(prefix: str = "flow") -> str:
    return f"{prefix}-{uuid.uuid4()}"


def page(client: Client, path: str, status: int = 200) -> str:
    answer = client.server.get(path)
    assert answer.status_code == status, answer.text
    assert not re.search(r"\sstyle=|<style|<script>|\son[a-z]+=", answer.text), "the policy of pages refuses that"
    return answer.text


def send(client: Client, address: str, **entered: Any) -> requests.Response:
    """Send the form of a question; `entered` stands in its fields."""
    form = fields_of(page(client, address))
    return requests.post(client.server.url + address, data={**form, **entered}, timeout=30)


def run_form(client: Client, flow_id: str, **entered: Any) -> requests.Response:
    return send(
        client,
        f"/runs/new?flow={flow_id}",
        **{f"p.{name}" if name != "labels" else name: text for name, text in entered.items()},
    )


def runs_of(client: Client, flow_id: str, fields: str = "parameters labels") -> list[Any]:
    asked = (
        f'{{ flow_run(where: {{ flow_id: {{ _eq: "{flow_id}" }}, auto_scheduled: {{ _eq: false }} }}) {{ {fields} }} }}'
    )
    found: list[Any] = client.ask(asked)["flow_run"]
    return found


def test_flows_in_trouble_stand_first_and_a_filter_leaves_the_others_out(client: Client) -> None:
    mark = uuid.uuid4().hex
    for name, state in (("a-good", "Success"), ("z-bad", "Failed")):
        run_id = client.create_run(client.flow(name=f"{mark}-{name}"))
        client.report(run_id, "Running")
        client.report(run_id, state)
    client.flow(name=f"{mark}-new", schedule=HOURLY)
    text = page(client, f"/flows?q={mark}")
    places = [text.index(f">{mark}-{name}</a>") for name in ("z-bad", "a-good", "new")]
    assert places == sorted(places)
    assert ("Never run" in text, "every hour at minute 20" in text) == (True, True)
    scheduled = page(client, f"/flows?q={mark}&only=scheduled")
    assert (f"{mark}-new" in scheduled, f">{mark}-z-bad<" in scheduled) == (True, False)
    assert "No flow matches." in page(client, f"/flows?q={mark}x")


def test_the_page_of_a_flow_tells_its_runs_versions_schedule_and_what_was_set(client: Client) -> None:
    name, project = name_of(), client.project()
    document: dict[str, Any] = {
        "name": name,
        "schedule": HOURLY,
        "run_config": {
            "type": "LocalRun",
            "limits": {"memory_bytes": 1 << 30},
            "weights": {"cpu": 1.5},
            "isolation": {"level": "sealed", "write": ["/srv/out"]},
            "labels": ["etl"],
        },
    }
    for state in ("Failed", "Success"):
        run_id = client.create_run(client.flow(project, **document), flow_run_name=f"ended-{state}")
        client.report(run_id, "Running")
        client.report(run_id, state, message=f"it is {state}")
    text = page(client, f"/flows/{name}")
    for told in (
        "The last 2 runs",
        "1 went well, 1 failed",
        "ended-Failed: Failed",
        "it is Success",
        "Every hour at minute 20.",
        ">etl</a>",
        "<dt>Memory</dt><dd>1G",
        "<dt>Cores</dt><dd>1.5",
        "<dt>Isolation</dt><dd>sealed",
        "<dt>May change</dt><dd>/srv/out",
        "Version 2, a command",
    ):
        assert told in text, told
    assert len(re.findall("<li><time", text)) == 5


def test_an_unknown_flow_is_named_and_its_id_leads_to_it(client: Client) -> None:
    name = name_of()
    flow_id = client.flow(name=name)
    assert f">{name}" in page(client, f"/flows/{flow_id}")
    assert f"No flow {name}x is registered." in page(client, f"/flows/{name}x", 404)
    client.do("delete_flow", flow_id=flow_id)
    assert "No flow" in page(client, f"/flows/{name}", 404)


def test_flows_of_one_name_in_two_projects_have_a_page_each(client: Client) -> None:
    name = name_of()
    for number in (1, 2):
        project = client.do("create_project", name=f"{name}-p{number}")["id"]
        client.flow(project, name=name, storage={"type": "Command", "argv": [f"number-{number}"]})
    listed = page(client, f"/flows?q={name}")
    for number in (1, 2):
        address = f"/flows/{name}?project={name}-p{number}"
        assert f'href="{address}"' in listed
        assert f"number-{number}" in page(client, address)


@pytest.mark.parametrize(
    "name", ["<b>&'\"{0}", "a/b ?#%{0}", "\u202eevil\n{0}", "long-{0}-" + "x" * 200, "\u6f22\u5b57 {0}"]
)
def test_a_flow_of_any_name_has_a_page_on_which_it_is_text(client: Client, name: str) -> None:
    name = name.replace("{0}", str(uuid.uuid4()))
    client.flow(name=name, schedule=HOURLY, description=name, parameters=[{"name": name, "default": name}])
    listed = page(client, f"/flows?q={quote(name[-30:])}")
    (address,) = re.findall(r'class="name" href="([^"]*)"', listed)
    text = page(client, unescape(address))
    assert ("<b>&'" in text, "\u202e" in text, "<h1" in text) == (False, False, True)
    assert name.split("\n")[0].split("\u202e")[-1] in unescape(unescape(text))


def test_the_form_has_a_field_for_each_parameter_and_sends_values_of_their_types(client: Client) -> None:
    flow_id = client.flow(name=name_of(), storage=PYTHON, run_config={"type": "LocalRun", "labels": ["etl"]})
    asked = page(client, f"/runs/new?flow={flow_id}")
    for field in (
        'name="p.region" type="text" value="" required',
        'value="50000" inputmode="numeric"',
        'type="date"',
        "<option selected>slow</option>",
    ):
        assert field in asked, field
    answer = run_form(client, flow_id, region="eu", rows="7", dry="true", mode="fast", day="2030-01-31")
    (run,) = runs_of(client, flow_id, "id parameters labels")
    assert answer.url.startswith(f"{client.server.url}/runs/{run.pop('id')}?done=")
    assert run == {
        "parameters": {"region": "eu", "rows": 7, "dry": True, "mode": "fast", "day": "2030-01-31"},
        "labels": ["etl"],
    }


def test_what_is_wrong_in_the_form_is_said_at_its_field_and_nothing_starts(client: Client) -> None:
    flow_id = client.flow(name=name_of(), storage=PYTHON)
    answer = run_form(client, flow_id, region="", rows="many", dry="true", labels="a, b")
    assert answer.status_code == 400
    for told in (
        "region: it is needed and has no default.",
        "rows: it takes a whole number, such as 50000.",
        'value="many"',
        'value="a, b"',
        "<option selected>true</option>",
    ):
        assert told in answer.text, told
    assert runs_of(client, flow_id) == []


def test_other_parameters_labels_and_a_later_start_are_taken_from_the_form(client: Client) -> None:
    flow_id = client.flow(name=name_of(), storage={"type": "Command", "argv": ["echo", "{day}"]})
    entered = {"p.day": "007", "others": "n=3\n text = a=b ", "at": "2040-01-31T08:00", "labels": "x, y"}
    address = f"/runs/new?flow={flow_id}"
    form = {**fields_of(page(client, address)), **entered}
    answers = [requests.post(client.server.url + address, data=form, timeout=30) for _ in range(2)]
    (run,) = runs_of(client, flow_id, "id parameters labels scheduled_start_time")
    assert {answer.url.partition("?")[0] for answer in answers} == {f"{client.server.url}/runs/{run['id']}"}
    assert (run["parameters"], run["labels"]) == ({"day": "007", "n": 3, "text": "a=b"}, ["x", "y"])
    assert run["scheduled_start_time"].startswith("2040-01-")
    wrong = send(client, address, others="no pair")
    assert "is not written as name=value" in unescape(wrong.text)


def test_a_schedule_is_paused_and_resumed_by_its_questions(client: Client) -> None:
    name = name_of()
    flow_id = client.flow(name=name, schedule=HOURLY)
    other = client.flow(name=name_of("other"), schedule=HOURLY)
    where = f'{{ id: {{ _in: ["{flow_id}", "{other}"] }} }}'
    state = f"{{ flow(where: {where}, order_by: {{ created: asc }}) {{ is_schedule_active }} }}"

    def active() -> list[bool]:
        return [row["is_schedule_active"] for row in client.ask(state)["flow"]]

    assert "The 4 runs that were created ahead are removed." in page(client, f"/schedules/pause?flow={flow_id}")
    assert active() == [True, True], "a question changes nothing"
    assert "Paused 1 schedule." in send(client, f"/schedules/pause?flow={flow_id}", back=f"/flows/{name}").text
    assert active() == [False, True]
    text = page(client, f"/flows/{name}")
    told = re.sub("<[^>]*>", "", text)
    assert re.search(r"Paused since \d\d:\d\d on the page: no run starts by it", told)
    assert "Resume its schedule" in told
    assert "perhaps it was changed meanwhile" in page(client, f"/schedules/pause?flow={flow_id}", 404)
    assert "Resumed 1 schedule." in send(client, f"/schedules/resume?flow={flow_id}", back=f"/flows/{name}").text
    assert active() == [True, True]


def test_the_list_of_schedules_begins_with_the_next_and_ends_with_the_paused(client: Client) -> None:
    mark = uuid.uuid4().hex
    client.flow(name=f"{mark}-off", schedule=HOURLY, set_schedule_active=False)
    client.flow(name=f"{mark}-yearly", schedule={"clocks": [{"type": "CronClock", "cron": "0 0 1 1 *"}]})
    client.flow(name=f"{mark}-often", schedule={"clocks": [{"type": "CronClock", "cron": "* * * * *"}]})
    text = page(client, "/schedules")
    places = [text.index(f">{mark}-{name}</a>") for name in ("often", "yearly", "off")]
    assert places == sorted(places)
    assert "more than 100 times in 24 hours" in text
    assert "Most at once" in text


def test_an_open_page_learns_of_an_end_and_of_a_pause(client: Client) -> None:
    name = name_of()
    flow_id = client.flow(name=name, schedule=HOURLY)
    client.report(client.create_run(flow_id), "Running")
    with stream(client, f"/flows/{name}") as events, stream(client, "/schedules") as listed:
        for each in (events, listed):
            each.until(lambda event: event[0] == "state", "state")
        run_id = client.create_run(flow_id, flow_run_name="the-new-one")
        client.report(run_id, "Running")
        client.report(run_id, "Failed")
        events.until(is_part("last", "the-new-one: Failed"), "strip")
        send(client, f"/schedules/pause?flow={flow_id}")
        events.until(is_part("schedule", "Paused since"), "schedule")
        listed.until(is_part(f"schedule-{flow_id}", "Resume"), "row")
