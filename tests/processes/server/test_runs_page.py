"""The list of runs: its groups, its filters, its pages, and the box that finds a run."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from html import unescape
from pathlib import Path
from urllib.parse import urlencode

import pytest
import requests

from tests.support.dialect import Client
from tests.support.server import running_server

pytestmark = pytest.mark.usefixtures("no_process_left")


@pytest.fixture
def mark() -> str:
    """A word that only this test's flows have."""
    return f"m{uuid.uuid4().hex[:10]}"


def page(client: Client, text: str, **more: str) -> requests.Response:
    return requests.get(f"{client.server.url}/runs?{urlencode({'q': text, **more})}", timeout=30)


def listed(answer: requests.Response) -> list[str]:
    """The ids of the runs in a list, in its order."""
    return re.findall(r'data-run="([0-9a-f-]{36})"', answer.text)


def link(answer: requests.Response, word: str) -> str:
    found = re.search(rf'href="([^"]*)"[^>]*>{word}</a>', answer.text)
    return unescape(found[1]) if found else ""


@pytest.fixture
def runs(client: Client, mark: str) -> Iterator[dict[str, str]]:
    """Runs of one flow in several states, by a word for each."""
    made = make_runs(client, mark)
    yield made
    client.report(made["running"], "Success")
    client.do("cancel_flow_runs", flow_run_ids=[made["late"]])


def make_runs(client: Client, mark: str) -> dict[str, str]:
    flow, agent = client.flow(name=f"flow of {mark}"), client.agent(f"label-{mark}")
    past = (datetime.now(timezone.utc) - timedelta(minutes=5)).isoformat()
    made = {
        "failed": client.create_run(flow, labels=["nobody"]),
        "good": client.create_run(flow, labels=["nobody"]),
        "running": client.create_run(flow, labels=[f"label-{mark}"]),
        "late": client.create_run(flow, labels=["nobody"], scheduled_start_time=past),
    }
    for word, state in (("failed", "Failed"), ("good", "Success")):
        client.report(made[word], "Running")
        client.report(made[word], state, message=f"{word} 100%_of {mark}")
    agent.report(made["running"], "Submitted")
    agent.report(made["running"], "Running")
    return made


def test_a_filter_finds_what_its_terms_say(client: Client, mark: str, runs: dict[str, str]) -> None:
    def found(text: str) -> set[str]:
        ids = {run_id: word for word, run_id in runs.items()}
        answer = page(client, f"{mark} {text}")
        assert answer.ok, answer.text
        return {ids[run_id] for run_id in listed(answer)}

    assert found("") == {"failed", "good", "running", "late"}
    assert found("state:failed") == {"failed"}
    assert found("state:failed,success") == {"failed", "good"}
    assert found("-state:ended") == {"running", "late"}
    assert found("is:late") == {"late"}
    assert found("is:stuck") == set()
    assert found(f"label:label-{mark}") == {"running"}
    assert found("label:label-*") == {"running"}
    assert found("agent:agent-*") == {"running"}
    assert found("-agent:agent-*") == {"failed", "good", "late"}
    assert found("before:1m") == {"late"}
    assert found("since:1m -state:running") == {"failed", "good"}
    assert found("took:<1h state:ended") == {"failed", "good"}
    assert found("took:>1h") == set()
    assert found("failed 100%_of") == {"failed"}
    assert found("100_") == set(), "% and _ of a text stand for themselves"
    assert found(runs["good"][:8]) == {"good"}
    assert listed(page(client, f'flow:"FLOW of {mark}" state:failed')) == [runs["failed"]]


def test_what_is_chosen_beside_the_filter_becomes_a_part_of_it(client: Client, mark: str) -> None:
    chosen = page(client, "state:failed flow:old", flow=f"flow of {mark}")
    assert chosen.url.endswith("?" + urlencode({"q": f'state:failed flow:"flow of {mark}"'}))
    assert page(client, "flow:old x", flow="*").url.endswith("?q=x")


def test_an_empty_list_says_which_term_to_leave_out(client: Client, mark: str, runs: dict[str, str]) -> None:
    answer = page(client, f"{mark} state:success took:>1h")
    assert listed(answer) == []
    assert "took:&gt;1h" in answer.text
    assert listed(requests.get(client.server.url + link(answer, "is 1 run"), timeout=30)) == [runs["good"]]


def test_pages_go_by_runs_so_that_new_ones_do_not_shift_them(client: Client, mark: str) -> None:
    flow = client.flow(name=mark)
    made = [client.create_run(flow) for _ in range(103)]
    first = page(client, f"flow:{mark}")
    assert listed(first) == made[:2:-1]
    assert link(first, "Newer") == ""
    client.create_run(flow)
    second = requests.get(client.server.url + link(first, "Older"), timeout=30)
    assert listed(second) == made[2::-1]
    assert link(second, "Older") == ""
    newer = requests.get(client.server.url + link(second, "Newer"), timeout=30)
    assert listed(newer) == listed(first)
    client.do("delete_flow", flow_id=flow)


def test_without_a_filter_the_list_has_its_groups_in_order(mark: str, tmp_path: Path) -> None:
    """On a server of its own: the list shows the first runs of a group only, which could all be other tests' runs."""
    with running_server(tmp_path / "data") as server:
        client = Client(server)
        runs = make_runs(client, mark)
        tomorrow = (datetime.now(timezone.utc) + timedelta(days=1)).isoformat()
        runs["next"] = client.create_run(scheduled_start_time=tomorrow)
        answer = server.get("/runs")
    places = [answer.text.index(f'id="h-{group}"') for group in ("running", "due", "failed", "next", "ended")]
    assert places == sorted(places)
    assert listed(answer) == [runs[word] for word in ("running", "late", "failed", "next", "good")]


def test_the_box_finds_a_run_by_its_id_and_else_looks_for_the_text(client: Client, runs: dict[str, str]) -> None:
    def leads_to(text: str) -> str:
        url = f"{client.server.url}/find?{urlencode({'q': text})}"
        return requests.get(url, timeout=30, allow_redirects=False).headers["Location"]

    assert leads_to(runs["good"][:8].upper()) == f"/runs/{runs['good']}"
    assert leads_to("no such thing") == "/runs?q=no+such+thing"
