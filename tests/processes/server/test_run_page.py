"""The page of a run at a real server: what it says of runs in each state, its log, what it hides, and the whole log."""

from __future__ import annotations

import re
import time
from html import unescape
from typing import Any

import pytest
import requests

from tests.support.dialect import Client

pytestmark = pytest.mark.usefixtures("no_process_left")

START = "2026-11-27T02:30:00.000000+00:00"


def page(client: Client, run_id: str, query: str = "") -> str:
    answer = client.server.get(f"/runs/{run_id}{query}")
    assert answer.status_code == 200, answer.text
    return answer.text


def fields_of(html: str) -> dict[str, str]:
    """The hidden fields of the one form on a page."""
    found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', html)
    return {unescape(name): unescape(value) for name, value in found}


def words(html: str) -> str:
    """The text of a page, with each run of blanks as one."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", html)))


def write(client: Client, run_id: str, *messages: str, stream: str = "stdout", level: str = "INFO") -> None:
    lines = [
        {"flow_run_id": run_id, "timestamp": START, "level": level, "message": text, "info": {"stream": stream}}
        for text in messages
    ]
    client.do("write_run_logs", logs=lines)


def ended(client: Client, run_id: str, account: dict[str, Any] | None = None) -> None:
    """Have a run fail as an agent reports it."""
    client.report(run_id, "Running")
    marks = {"reason": "exited", "grade": "proven", "account": account or {}}
    client.report(run_id, "Failed", message="Exit code 3.", context={"flowherd": marks})


@pytest.fixture
def failed(client: Client) -> str:
    """A run that has failed, with a log and an account of its end."""
    flow = client.flow(
        parameters=[{"name": "target", "default": "/srv", "required": False, "slug": "target"}],
        storage={"type": "Command", "argv": ["./backup.sh", "{target}"]},
    )
    given = {"target": "/srv", "api_key": "hunter2", "url": "https://me:s3cret@host/"}
    how = {"limits": {"memory_bytes": 2 << 30}, "weights": {"nice": 10}, "isolation": "sealed"}
    config = {"type": "LocalRun", **how, "env": {"PASSWORD_FILE": "/hidden/place"}}
    run_id = client.create_run(flow, parameters=given, run_config=config)
    write(client, run_id, "first", "\x1b[32mgreen\x1b[0m <b>")
    write(client, run_id, "it broke", stream="stderr", level="ERROR")
    samples = {"start": 1000.0, "rows": [[0.0, 1024, 50], [60.0, 2048, 90], [120.0, 4096, 10]]}
    processes = [[10, 9, "./backup.sh", 4.2, 100, 1000.0], [11, 10, "zstd <x>", 61.0, 900, 1000.0]]
    events = [[1000.0, "adopted", "by pid 1211"]]
    more = {"exit_code": 3, "cpu_time_s": 65.2, "peak_memory_bytes": 5 << 20, "evidence": "wait status: exit code 3"}
    ended(
        client,
        run_id,
        {**more, "samples": samples, "processes": processes, "processes_at_s": 1100.0, "events": events},
    )
    return run_id


def test_a_failed_run_is_told_by_its_verdict_facts_story_curve_and_processes(client: Client, failed: str) -> None:
    html = page(client, failed)
    text = words(html)
    assert re.search(r"<title>Failed: flow-\S+, \S+ · flowherd</title>", html)
    assert "Exit code 3. proven" in text
    assert "Wait status: exit code 3" in text
    for fact in ("Peak memory 5 MiB", "CPU time 1 m 05 s", "Exit code 3", "Output 3 lines 1 error"):
        assert fact in text
    assert "Adopted by pid 1211" in text
    assert 'aria-label="Memory began at 1 MiB' in html
    assert "50 %" in text
    assert "11 zstd <x> 1:01" in text
    assert "Run again…" in text
    assert "Cancel…" not in text


def test_the_log_shows_colours_levels_and_markup_as_text(client: Client, failed: str) -> None:
    html = page(client, failed)
    assert '<span class="a32">green</span> &lt;b&gt;' in html
    assert re.search(r'<div id="L3" class="r e">', html)
    assert "Errors 1" in words(html)
    assert re.search(r"The end: line 3\.", words(html))


def test_secrets_among_parameters_are_not_shown(client: Client, failed: str) -> None:
    html = page(client, failed)
    text = words(html)
    assert 'target "/srv" default' in text
    assert "api_key •••• masked" in text
    assert '"https://me:••••@host/" masked' in text
    assert "PASSWORD_FILE" in text
    assert not [secret for secret in ("hunter2", "s3cret", "/hidden/place") if secret in html]
    assert "Limits memory 2 GiB" in text and "Weights nice 10" in text and "Isolation sealed" in text
    assert "Command ./backup.sh {target}" in text


def test_text_of_others_is_shown_as_text_wherever_it_stands(client: Client) -> None:
    evil = "<img src=x onerror=alert(1)>\u202e\r\n\x07"
    flow = client.flow(name=f"{evil}{time.time()}", storage={"type": "Command", "argv": [evil]})
    config = {"type": "LocalRun", "user": evil, "working_dir": evil, "env": {evil: "x"}}
    given = {"parameters": {evil: evil}, "labels": [evil], "run_config": config, "flow_run_name": evil}
    run_id = client.create_run(flow, **given)
    write(client, run_id, evil)
    ended(client, run_id, {"evidence": evil, "processes": [[1, 0, evil, 1.0, 1, 1.0]], "events": [[1.0, evil, evil]]})
    for html in (page(client, run_id), client.server.get(f"/runs/{run_id}/changed").text):
        assert "<img" not in html
        found = [html[max(0, html.index(c) - 80) : html.index(c) + 30] for c in "\u202e\x07\r" if c in html]
        assert not found


def test_a_run_that_waits_says_for_what(client: Client) -> None:
    run_id = client.create_run(client.flow(), labels=["no-such-label"])
    text = words(page(client, run_id))
    assert "no-such-label" in text
    assert "It has written nothing yet." in text
    assert "Cancel…" in text


def test_a_search_and_a_level_are_addresses(client: Client, failed: str) -> None:
    found = page(client, failed, "?search=BROKE")
    assert "1 of 1" in words(found)
    assert "it <mark>broke</mark>" in found
    assert 'class="r e here"' in found
    errors = page(client, failed, "?level=error")
    assert "it broke" in errors
    assert "first" not in re.findall(r'<span class="say">([^<]*)', errors)
    assert "not found" in words(page(client, failed, "?search=nothing-like-it"))


def going(client: Client, **figures: Any) -> str:
    """A run that an agent has, which has just reported these figures of it."""
    run_id = client.create_run(labels=["going"])
    agent = client.agent("going")
    agent.report(run_id, "Submitted")
    agent.report(run_id, "Running")
    reported = {"id": run_id, "at": time.time(), **figures}
    known = {"instance": run_id, "unsent_bytes": 2048, "run_figures": [reported]}
    agent.do("offer_runs", labels=["going"], holder=run_id, report=known)
    return run_id


def test_a_running_run_shows_what_it_uses_now(client: Client) -> None:
    tree = [{"pid": 5, "command": "train.py", "memory_bytes": 1 << 20, "cpu_time_s": 4.0}]
    used = {"memory_bytes": 95 << 20, "memory_limit_bytes": 100 << 20, "cpu_share": 3.86, "processes": 9}
    run_id = going(client, **used, last_line_at=time.time() - 4, tree=tree)
    html = page(client, run_id)
    text = words(html)
    for shown in ("CPU 386 %", "Memory 95 MiB of 100 MiB", "Processes 9", "5 train.py 0:04"):
        assert shown in text
    assert re.search("Running for .*Memory is at 95 % of its limit", text)
    assert 'aria-label="95 percent of the limit"' in html
    assert "Its agent has 2 KiB of output that the server does not have yet." in text


def test_the_question_before_a_cancel_says_what_happens_to_the_processes(client: Client) -> None:
    run_id = going(client, processes=9, grace_s=10.0)
    text = words(client.server.get(f"/runs/cancel?run={run_id}").text)
    assert "Its 9 processes are asked to end, and killed after 10 s if they have not. It has been running for" in text


def test_a_run_that_is_repeated_from_its_page_leads_to_the_new_one(client: Client, failed: str) -> None:
    address = f"{client.server.url}/runs/again?run={failed}"
    form = fields_of(requests.get(address, headers={"Referer": f"{client.server.url}/runs/{failed}"}, timeout=30).text)
    done = requests.post(address, data=form, timeout=30)
    new = re.search("/runs/([0-9a-f-]{36})", done.url)
    assert new is not None
    assert client.run(new[1], "repeats") == {"repeats": failed}


def test_the_tasks_of_a_flow_are_a_table(client: Client) -> None:
    tasks = [{"name": "extract", "slug": "extract-1", "type": "T", "tags": [], "mapped": False}]
    run_id = client.create_run(client.flow(tasks=tasks))
    assert re.search(r"Tasks 1 task run .* extract", words(page(client, run_id)))


def test_the_whole_log_is_plain_text_and_a_download(client: Client, failed: str) -> None:
    plain = client.server.get(f"/runs/{failed}/log")
    assert plain.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert plain.headers["X-Content-Type-Options"] == "nosniff"
    assert [line[25:] for line in plain.text.splitlines()] == [
        "stdout    first",
        "stdout    green <b>",
        "stderr    it broke",
    ]
    download = client.server.get(f"/runs/{failed}/log?download=1")
    assert re.fullmatch(r'attachment; filename="[a-z-]+-[0-9a-f]{8}\.log"', download.headers["Content-Disposition"])
    assert download.content == plain.content


@pytest.mark.parametrize("path", ["/runs/nonsense", "/runs/00000000-0000-4000-8000-000000000000", "/runs/x/log"])
def test_a_run_that_does_not_exist_is_said_to_be_none(client: Client, path: str) -> None:
    answer = client.server.get(path)
    assert answer.status_code == 404
    assert "There is no flow run" in words(answer.text)


def test_the_page_has_no_inline_style_or_script(client: Client, failed: str) -> None:
    html = page(client, failed)
    assert not re.search(r"\sstyle=|<style|<script>|\son[a-z]+=", html)
    for address in re.findall(r'(?:href|src)="(/static/[^"]*)"', html):
        assert client.server.get(address).ok
