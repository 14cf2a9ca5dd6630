"""What one does on the pages in a real browser: actions with their questions, following a log, a login, keys."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import open_page, running_browser
from tests.support.dialect import Client
from tests.support.leftovers import none_left
from tests.support.page_scene import report_figures, start_run, write_lines
from tests.support.server import ServerProcess, running_server

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]

TOKEN = "a-token-of-a-test"
_SCRIPT = pytest.mark.parametrize(
    "script", [True, pytest.param(False, marks=pytest.mark.full)], ids=["script", "plain"]
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as found:
        yield found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server behind a token, because only then an agent can be drained and restarted on a page."""
    with none_left(), running_server(tmp_path_factory.mktemp("actions") / "data", TOKEN) as found:
        yield found


@pytest.fixture
def client(server: ServerProcess) -> Client:
    return Client(server)


def log_in(page: Page, server: ServerProcess, path: str = "/") -> None:
    page.goto(server.url + path)
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_label("Your name").fill("ada")
    page.get_by_role("button", name="Log in").click()


def do(page: Page, link: str, says: str, button: str, came: str | re.Pattern[str]) -> None:
    """Press a link that ends with `…`, read the question and agree to it."""
    page.get_by_role("link", name=link).or_(page.get_by_role("button", name=link)).first.click()
    question = page.locator("form[data-question]")
    expect(question).to_contain_text(says)
    question.get_by_role("button", name=button).click()
    expect(page.locator(".said")).to_have_text(came)


@_SCRIPT
def test_a_run_is_started_cancelled_and_run_again_with_changes(browser: Browser, client: Client, script: bool) -> None:
    name = f"orders-{uuid.uuid4()}"
    parameters = [{"name": "day", "required": True}, {"name": "limit", "default": 10, "required": False}]
    client.flow(name=name, parameters=parameters)
    with open_page(browser, script=script) as page:
        log_in(page, client.server, f"/flows/{name}")
        page.get_by_label("day").fill("2030-01-01")
        page.locator("#run").get_by_role("button", name="Run").click()
        expect(page.locator(".said")).to_have_text(f"Created a run of {name}.")
        first = page.url.rpartition("/")[2].partition("?")[0]
        do(page, "Cancel…", f"Cancel {name}", "Cancel the run", "Cancelled 1.")
        expect(page.locator("#story")).to_contain_text("ada")
        do(page, "Run again…", f"Run {name}", "Run again", "Created 1 run.")
        page.goto(f"{client.server.url}/runs/{first}")
        page.get_by_role("link", name="With changes…").click()
        question = page.locator("form[data-question]")
        expect(question.get_by_label("day")).to_have_value("2030-01-01")
        question.get_by_label("limit").fill("20")
        question.get_by_role("button", name="Run").click()
        expect(page.locator(".said")).to_contain_text("Created a run that repeats")
        changed = page.url.rpartition("/")[2].partition("?")[0]
    assert client.run(first, "state parameters") == {
        "state": "Cancelled",
        "parameters": {"day": "2030-01-01", "limit": 10},
    }
    assert client.run(changed, "parameters")["parameters"] == {"day": "2030-01-01", "limit": 20}


@_SCRIPT
def test_schedules_are_paused_and_resumed(browser: Browser, client: Client, script: bool) -> None:
    name = f"nightly-{uuid.uuid4()}"
    flow = client.flow(name=name, schedule={"clocks": [{"type": "CronClock", "cron": "30 2 * * *"}]})
    other = client.flow(name=f"other-{name}", schedule={"clocks": [{"type": "IntervalClock", "interval": 3600000000}]})

    def active(flow_id: str) -> bool:
        found = client.ask(f'{{ flow_by_pk(id: "{flow_id}") {{ is_schedule_active }} }}')
        return bool(found["flow_by_pk"]["is_schedule_active"])

    with open_page(browser, script=script) as page:
        log_in(page, client.server, f"/flows/{name}")
        do(page, "Pause its schedule…", f"Pause the schedule of {name}?", "Pause it", "Paused 1 schedule.")
        assert (active(flow), active(other)) == (False, True)
        do(page, "Resume its schedule…", "from its next time on", "Resume it", "Resumed 1 schedule.")
        page.goto(client.server.url + "/schedules")
        do(page, "Pause all…", "No run starts", "Pause", re.compile(r"Paused \d+ schedules\."))
        assert (active(flow), active(other)) == (False, False)
        do(page, "Resume all…", "from its next time on", "Resume", re.compile(r"Resumed \d+ schedules\."))
        assert (active(flow), active(other)) == (True, True)


@_SCRIPT
def test_agents_are_asked_on_their_page(browser: Browser, client: Client, script: bool) -> None:
    agent = client.agent("etl")
    report_figures(agent, [])
    name = client.ask(f'{{ agent_by_pk(id: "{agent.agent_id}") {{ name }} }}')["agent_by_pk"]["name"]
    with open_page(browser, script=script) as page:
        log_in(page, client.server, "/agents")
        panel = page.locator(f"#agent-{agent.agent_id}")
        do(page, "Have all look for runs now…", "asks for runs at once", "Have them look", re.compile("look for runs"))
        for link, says in (("Pause…", "claims nothing until"), ("Restart…", "adopts its runs"), ("Drain…", "deadline")):
            panel.get_by_role("link", name=link).click()
            question = page.locator("form[data-question]")
            expect(question).to_contain_text(says)
            question.get_by_role("link", name="Leave it").click()
            expect(panel).to_be_visible()
            expect(page.locator("form[data-question]")).to_have_count(0)
        panel.get_by_role("link", name="Pause…").click()
        page.locator("form[data-question]").get_by_role("button", name=f"Pause {name}").click()
        # This agent takes orders, but does not carry them out.
        expect(page.locator(".said")).to_have_text(f"Asked {name} to pause; it has not answered yet.")
        expect(panel).to_contain_text("asked to pause")


def test_a_run_is_followed_live_to_its_end(browser: Browser, client: Client) -> None:
    agent = client.agent("live")
    run_id = start_run(agent, client.flow(name=f"followed-{uuid.uuid4()}"))
    write_lines(agent, run_id, ["reading", "\x1b[31mred\x1b[0m \r90 %"])
    with open_page(browser, height=1000) as page:
        log_in(page, client.server, f"/runs/{run_id}")
        expect(page.locator("#live")).to_have_text("live")
        expect(page.locator("#lines .r")).to_have_count(2)
        expect(page.locator("#L2 .say")).to_have_text("90 %")
        expect(page.locator("#following")).to_be_visible()
        lines = [f"step {n}" for n in range(60)]
        write_lines(agent, run_id, lines, first=2)
        expect(page.locator("#lines .r")).to_have_count(62)
        expect(page.locator("#L62")).to_be_in_viewport()
        # One who scrolls up is left where he is, and sees that more has come.
        page.locator("#lines").evaluate("e => { e.scrollTop = 0; }")
        expect(page.locator("#following")).to_be_hidden()
        write_lines(agent, run_id, ["one more"], first=62)
        expect(page.locator("#log-tools")).to_have_text("1 new line below")
        page.keyboard.press("f")
        expect(page.locator("#L63")).to_be_in_viewport()
        write_lines(agent, run_id, ["KeyError: 'vat_rate'"], first=63)
        agent.report(run_id, "Failed", claim=run_id, message="KeyError: 'vat_rate'")
        expect(page.locator("h1 .badge")).to_have_text("Failed")
        expect(page.locator("#verdict")).to_contain_text("vat_rate")
        expect(page.locator("#acts")).to_contain_text("Run again…")
        expect(page.locator("#L64 .say")).to_have_text("KeyError: 'vat_rate'")
        expect(page).to_have_title(re.compile("^Failed"))


def test_a_token_opens_the_pages_for_one_browser(browser: Browser, client: Client) -> None:
    with open_page(browser, fails=("Failed to load resource",)) as page:
        page.goto(client.server.url + "/runs?q=state:failed")
        expect(page.locator("h1")).to_have_text("This server asks for its token")
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_be_visible()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Log in").click()
        expect(page).to_have_url(f"{client.server.url}/runs?q=state:failed")
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert TOKEN not in cookie["value"]
        page.get_by_role("button", name="Log out").click()
        page.goto(client.server.url + "/")
        expect(page.locator("h1")).to_have_text("This server asks for its token")


def test_the_pages_are_reached_by_keys(browser: Browser, client: Client) -> None:
    run_id = start_run(client.agent("keys"), client.flow(name=f"by-keys-{uuid.uuid4()}"))
    with open_page(browser) as page:
        log_in(page, client.server)
        root = page.locator("html")
        expect(page.locator("#theme")).to_be_visible()
        for key, path in (("r", "/runs"), ("f", "/flows"), ("s", "/schedules"), ("a", "/agents"), ("o", "/")):
            page.keyboard.press("g")
            page.keyboard.press(key)
            expect(page).to_have_url(client.server.url + path)
            expect(page.locator("#theme")).to_be_visible()
        page.keyboard.press("t")
        expect(root).to_have_attribute("data-theme", "light")
        page.keyboard.press("?")
        expect(page.locator("dialog")).to_contain_text("Keys")
        page.keyboard.press("Escape")
        page.keyboard.press("/")
        page.keyboard.type(run_id[:8])
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{client.server.url}/runs/{run_id}")
        page.wait_for_load_state()
        # A key that is typed into a field is a letter.
        page.keyboard.press("/")
        page.keyboard.type("grc")
        expect(page.locator(".logbar input[type=search]")).to_have_value("grc")
        page.keyboard.press("Escape")
        page.keyboard.press("w")
        expect(page.locator("#lines")).to_have_class(re.compile("nowrap"))
