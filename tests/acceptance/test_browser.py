"""The pages in a real browser: what a person sees and does, with and without script."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import open_page, running_browser
from tests.support.dialect import Client
from tests.support.leftovers import none_left
from tests.support.server import ServerProcess, running_server

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]

EVIL = "<img src=x onerror=\"document.title='evil'\"><script>document.title='evil'</script>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as found:
        yield found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with none_left(), running_server(tmp_path_factory.mktemp("pages") / "data") as found:
        yield found


@pytest.fixture
def client(server: ServerProcess) -> Client:
    return Client(server)


def going_run(client: Client, flow: str) -> str:
    run_id = client.create_run(flow)
    client.report(run_id, "Running")
    return run_id


def is_live(page: Page) -> None:
    expect(page.locator("#live")).to_have_text("live")


def test_runs_are_marked_and_cancelled_by_keys_alone(browser: Browser, client: Client) -> None:
    flow = client.flow(name=f"keys-{uuid.uuid4()}")
    runs = [going_run(client, flow) for _ in range(3)]
    with open_page(browser) as page:
        page.goto(f"{client.server.url}/runs?q=flow:keys-*")
        is_live(page)
        for key in ("j", "x", "j", "x", "c"):
            page.keyboard.press(key)
        dialog = page.locator("dialog")
        expect(dialog).to_contain_text("Cancel 2 runs?")
        page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
        assert {client.run(run, "state")["state"] for run in runs} == {"Running"}
        # What is marked stays marked while the list changes.
        another = going_run(client, flow)
        expect(page.locator(f"#run-{another}")).to_be_visible()
        assert page.locator("input[name=run]:checked").count() == 2
        page.keyboard.press("c")
        page.get_by_role("button", name="Cancel 2 runs").click()
        expect(page.locator(".said")).to_have_text("Asked 2 runs to end.")
    assert [client.run(run, "state")["state"] for run in runs] == ["Running", "Cancelling", "Cancelling"]


def test_a_run_is_cancelled_without_script(browser: Browser, client: Client) -> None:
    run_id = client.create_run(client.flow(name=f"plain-{uuid.uuid4()}"))
    with open_page(browser, script=False) as page:
        page.goto(f"{client.server.url}/runs")
        page.get_by_label("Filter").fill("flow:plain-*")
        page.get_by_role("button", name="Filter").click()
        page.locator("input[name=run]").check()
        page.get_by_role("button", name="Cancel…").click()
        expect(page.locator("h1")).to_contain_text("Cancel plain-")
        page.get_by_role("button", name="Cancel the run").click()
        expect(page.locator(".said")).to_have_text("Cancelled 1.")
        assert page.url.startswith(f"{client.server.url}/runs?q=flow")
    assert client.run(run_id, "state") == {"state": "Cancelled"}


def test_the_overview_changes_by_itself_and_outlives_its_server(browser: Browser, client: Client) -> None:
    flow = client.flow(name=f"live-{uuid.uuid4()}")
    run_id = going_run(client, flow)
    with open_page(browser, fails=("Failed to load resource",)) as page:
        page.goto(client.server.url)
        is_live(page)
        expect(page.locator(f"#running #run-{run_id}")).to_be_visible()
        client.report(run_id, "Failed", message="out of luck")
        expect(page.locator(f"#ended #run-{run_id}")).to_contain_text("Failed")
        expect(page.locator("#needs")).to_contain_text("out of luck")
        assert page.title().startswith(page.locator("h1").inner_text())
        client.server.stop()
        expect(page.locator("#gone")).to_contain_text("No contact with the server")
        client.server.start()
        is_live(page)
        expect(page.locator("#gone")).to_have_count(0)
        later = going_run(client, flow)
        expect(page.locator(f"#running #run-{later}")).to_be_visible()


@pytest.mark.parametrize("dark", [False, pytest.param(True, marks=pytest.mark.full)], ids=["light", "dark"])
def test_hostile_and_long_names_are_text_and_no_page_scrolls_sideways(
    browser: Browser, client: Client, dark: bool
) -> None:
    name = f"{EVIL} {uuid.uuid4()} " + "x" * 200
    run_id = client.create_run(client.flow(name=name), flow_run_name=name)
    client.report(run_id, "Running")
    client.report(run_id, "Failed", message=f"{EVIL} {'y' * 4000}")
    for width in (375, 1280):
        with open_page(browser, width=width, dark=dark) as page:
            for path in ("/", "/runs", "/runs?q=state:failed", f"/runs/cancel?run={run_id}", "/keys"):
                page.goto(client.server.url + path)
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
                assert page.title() != "evil"
                assert page.locator("main img").count() == 0
