"""The frame of the pages: headers, forms and their tokens, the login, and what each of them refuses."""

from __future__ import annotations

import re
import uuid
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from flowherd_server.pages.login import COOKIE, Logins
from flowherd_server.pages.routes import Pages
from tests.support.dialect import Client
from tests.support.server import ServerProcess, running_server

pytestmark = pytest.mark.usefixtures("no_process_left")

HTML = {"Accept": "text/html"}


def fields_of(html: str) -> dict[str, Any]:
    """The hidden fields of the one form on a page; of several with one name the last."""
    found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', html)
    return {unescape(name): unescape(value) for name, value in found}


def ask(client: Client, path: str, run_id: str, **session: Any) -> tuple[str, dict[str, Any]]:
    """The address of a question, and the fields of its form."""
    address = f"{client.server.url}{path}?run={run_id}"
    return address, fields_of(requests.get(address, timeout=30, **session).text)


def test_a_page_loads_nothing_from_elsewhere_and_has_no_inline_style_or_script(client: Client) -> None:
    page = client.server.get("/")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert page.headers["Cache-Control"] == "no-store"
    assert not re.search(r"\sstyle=|<style|<script>|\son[a-z]+=", page.text)
    for address in re.findall(r'(?:href|src)="(/static/[^"]*)"', page.text):
        file = client.server.get(address)
        assert file.ok
        assert "immutable" in file.headers["Cache-Control"]


def test_a_run_is_cancelled_by_its_question_and_the_page_says_what_came_of_it(client: Client) -> None:
    run_id = client.create_run()
    address, form = ask(client, "/runs/cancel", run_id)
    assert client.run(run_id, "state") == {"state": "Scheduled"}, "a question changes nothing"
    done = requests.post(address, data=form, timeout=30)
    assert client.run(run_id, "state") == {"state": "Cancelled"}
    assert "Cancelled 1." in done.text
    assert [each.status_code for each in done.history] == [303]


def test_a_form_that_is_sent_twice_starts_one_run(client: Client) -> None:
    run_id = client.create_run()
    client.report(run_id, "Failed")
    address, form = ask(client, "/runs/again", run_id)
    first, second = (requests.post(address, data=form, timeout=30) for _ in range(2))
    assert "Created 1 run." in first.text
    assert first.url == second.url
    repeats = f'{{ flow_run(where: {{ repeats: {{ _eq: "{run_id}" }} }}) {{ id }} }}'
    assert len(client.ask(repeats)["flow_run"]) == 1


@pytest.mark.parametrize("token", ["", "x.y", None])
def test_a_form_without_its_token_is_asked_again_and_changes_nothing(client: Client, token: str | None) -> None:
    run_id = client.create_run()
    address, form = ask(client, "/runs/cancel", run_id)
    changed = {**form, "form_token": token} if token is not None else {"run": run_id}
    answer = requests.post(address, data=changed, timeout=30)
    assert answer.status_code == 400
    assert "Cancel the run" in answer.text
    assert client.run(run_id, "state") == {"state": "Scheduled"}
    assert requests.post(address, data=fields_of(answer.text), timeout=30).ok
    assert client.run(run_id, "state") == {"state": "Cancelled"}


def test_a_form_of_another_site_is_refused(client: Client) -> None:
    run_id = client.create_run()
    address, form = ask(client, "/runs/cancel", run_id)
    answer = requests.post(address, data=form, headers={"Origin": "https://evil.example"}, timeout=30)
    assert answer.status_code == 403
    assert client.run(run_id, "state") == {"state": "Scheduled"}


def test_a_form_leads_only_to_pages_of_this_server(client: Client) -> None:
    for back in ("https://evil.example/", "//evil.example/", "/\\evil.example"):
        address, form = ask(client, "/runs/cancel", client.create_run())
        answer = requests.post(address, data={**form, "back": back}, allow_redirects=False, timeout=30)
        assert answer.status_code == 303
        assert answer.headers["Location"].startswith("/?done=")


def test_a_person_logs_in_with_the_token_and_out_again(closed_server: ServerProcess) -> None:
    url = closed_server.url
    with requests.Session() as browser:
        browser.trust_env = False
        browser.headers.update(HTML)
        asked = browser.get(url + "/?x=1", timeout=30)
        assert asked.url == f"{url}/login?next=/%3Fx%3D1"
        form = fields_of(asked.text)
        assert browser.post(url + "/login", data={**form, "token": "wrong"}, timeout=30).status_code == 403
        assert not browser.cookies
        entered = browser.post(url + "/login", data={**form, "token": "s3cret", "name": "Ada"}, timeout=30)
        assert entered.url == f"{url}/?x=1"
        assert "Log out Ada" in entered.text
        cookie = entered.history[0].headers["Set-Cookie"]
        assert "HttpOnly; SameSite=Strict" in cookie
        assert "s3cret" not in cookie
        refused = browser.post(url + "/graphql", json={"query": "{ hello }"}, timeout=30)
        assert refused.status_code == 401, "a login is for the pages alone"
        browser.post(url + "/logout", timeout=30)
        assert browser.get(url, timeout=30).url.startswith(f"{url}/login")


def test_a_login_that_was_changed_or_has_ended_is_none(closed_server: ServerProcess) -> None:
    cookie = Logins("another").cookie("Eve", is_secure=False).partition(";")[0].partition("=")[2]
    until, name, signature = Logins("s3cret").cookie("", is_secure=False).partition(";")[0].partition("=")[2].split(".")
    for value in (cookie, f"{int(until) + 1}.{name}.{signature}", f"{until}.QWRh.{signature}", "x"):
        answer = requests.get(
            closed_server.url, headers=HTML, cookies={COOKIE: value}, timeout=30, allow_redirects=False
        )
        assert (answer.status_code, answer.headers["Location"]) == (303, "/login?next=/")


def test_what_another_site_leads_to_is_shown_with_the_login(closed_server: ServerProcess) -> None:
    """A browser leaves the cookie out of it, and sends it again with what the page itself leads to."""
    answer = requests.get(
        closed_server.url + "/login?next=/", headers={"Sec-Fetch-Site": "cross-site", **HTML}, timeout=30
    )
    assert '<meta http-equiv="refresh" content="0; url=/login?next=%2F">' in answer.text


def test_another_site_can_link_to_a_page_but_not_fetch_it(client: Client) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert requests.get(client.server.url + "/", headers=headers, timeout=30).ok
    answer = requests.get(client.server.url + "/", headers={**headers, "Sec-Fetch-Mode": "no-cors"}, timeout=30)
    assert answer.status_code == 403


def test_names_of_others_are_shown_as_text_and_in_one_line(client: Client) -> None:
    evil = f"<script>alert('{uuid.uuid4()}')</script>\n\u202eevil\x1b[31m"
    run_id = client.create_run(client.flow(name=evil), flow_run_name=evil)
    client.report(run_id, "Failed", message=evil)
    text = client.server.get("/").text
    assert "<script>alert" not in text
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "&lt;script&gt;alert" in text
    assert r"&lt;/script&gt;\n\u202eevil\x1b[31m" in text


def test_without_a_login_no_page_is_shown_and_no_form_is_taken(closed_server: ServerProcess) -> None:
    core: Any = SimpleNamespace(feed=SimpleNamespace(on_close=[]))
    routes = Pages(core, core, "s3cret").routes
    for route in routes:
        address = closed_server.url + re.sub(r"\{[^}]*\}", "x", route.path)
        for method in (route.methods or set()) - {"HEAD"}:
            answer = requests.request(method, address, timeout=30)
            is_open = route.path.startswith(("/static/", "/login", "/logout"))
            assert is_open or answer.status_code == 401, (method, route.path)


def test_pages_that_are_only_read_have_no_buttons_and_take_no_form(client: Client, tmp_path: Path) -> None:
    with running_server(tmp_path / "data", pages="read") as server:
        reader = Client(server)
        run_id = reader.create_run()
        for path in ("/", "/runs"):
            text = server.get(path).text
            assert "…</button>" not in text
            assert "data-ask>Cancel" not in text
        assert run_id in server.get("/runs").text
        assert server.get(f"/runs/cancel?run={run_id}").status_code == 403
        _, form = ask(client, "/runs/cancel", client.create_run())
        assert server.post("/runs/cancel", data={**form, "run": run_id}).status_code == 403
        assert reader.run(run_id, "state") == {"state": "Scheduled"}


def test_a_server_can_be_without_pages(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", pages="off") as server:
        assert [server.get(path).status_code for path in ("/", "/runs", "/events", "/static/flowherd.css")] == [
            405,
            404,
            404,
            404,
        ]
        assert Client(server).create_run()
