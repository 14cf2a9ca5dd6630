"""Notifications of a real server, counted through kills of it."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.commands import CommandLine
from tests.support.dialect import Client
from tests.support.http_server import Answer, Request, http_server
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until


class Hook:
    """A webhook that a test can make refuse, or hold the answer back."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.status = 200
        self.may_answer = threading.Event()
        self.may_answer.set()

    def answer(self, request: Request) -> Answer:
        self.messages.append(json.loads(request.body))
        status = self.status
        self.may_answer.wait(20)
        return Answer(status=status)

    def ids(self) -> Counter[str]:
        """Return how often each notification came."""
        return Counter(each["id"] for one in self.messages for each in one.get("notifications", [one]))

    def flows(self) -> set[str]:
        return {each["flow"] for one in self.messages for each in one.get("notifications", [one])}


@contextmanager
def notifying_server(tmp_path: Path, url: str) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path / "data")
    server.home.mkdir(mode=0o700)
    (server.home / "config.toml").write_text(
        f'[[notify.channels]]\nname = "hook"\nwebhook = "{url}"\n[[notify.rules]]\non = ["failed", "recovered"]\n'
    )
    server.start()
    try:
        yield server
    finally:
        server.kill()


def fail(client: Client, count: int) -> set[str]:
    """Have a run of so many new flows fail; return the flows' names."""
    names = set()
    for _ in range(count):
        run_id = client.create_run()
        client.report(run_id, "Submitted")
        client.report(run_id, "Failed")
        names.add(client.run(run_id, "flow { name }")["flow"]["name"])
    return names


def test_each_failure_is_delivered_over_kills_of_the_server_and_noticed_once(tmp_path: Path) -> None:
    hook = Hook()
    with http_server(hook.answer) as url, notifying_server(tmp_path, url) as server:
        client = Client(server)
        # Killed while the hook holds the answer to a delivery back.
        hook.may_answer.clear()
        flows = fail(client, 2)
        wait_until(lambda: hook.messages, what="a delivery is under way")
        server.kill()
        hook.may_answer.set()
        server.start()
        wait_until(lambda: hook.flows() == flows, what=lambda: f"{flows}: {hook.messages}")
        # Killed right after an end was stored, and while the hook refuses.
        hook.status = 503
        flows |= fail(client, 2)
        server.kill()
        server.start()
        wait_until(lambda: len(hook.messages) >= 4, what="it is refused")
        hook.status = 200
        wait_until(lambda: hook.flows() == flows, what=lambda: f"{flows}: {hook.messages}")
        waiting = "{ notification(where: {delivered: {_is_null: true}}) { id } }"
        wait_until(lambda: client.ask(waiting) == {"notification": []}, what="all are delivered")
        assert len(hook.ids()) == len(flows) == 4
        stored = client.ask("{ notification { message_id channel kind flow_run { state } } }")["notification"]
        assert {row["message_id"] for row in stored} == set(hook.ids())
        assert [(row["channel"], row["kind"], row["flow_run"]["state"]) for row in stored] == [
            ("hook", "failed", "Failed")
        ] * 4
        rules = client.ask("{ notification_rule { project rule } notification_channel { name kind place } }")
        assert rules["notification_rule"][0]["rule"]["on"] == ["failed", "recovered"]
        assert rules["notification_channel"] == [{"name": "hook", "kind": "webhook", "place": "http://127.0.0.1"}]


def test_channels_are_tried_and_listed_and_a_project_has_rules_of_its_own(tmp_path: Path) -> None:
    hook = Hook()
    project = tmp_path / "flows.toml"
    project.write_text(
        'project = "shop"\n[flows.nightly]\ncommand = ["true"]\n[[notify]]\non = ["missed"]\nto = ["hook"]\n'
    )
    with http_server(hook.answer) as url, notifying_server(tmp_path, url) as server:
        command = CommandLine(server.home)
        assert command("notify", "test", "hook").stdout == "hook: delivered\n"
        assert [each["kind"] for each in hook.messages] == ["test"]
        hook.status = 500
        failed = command("notify", "test", "--json", code=1)
        assert json.loads(failed.stdout)[0]["error"] == "http://127.0.0.1 answered 500 Internal Server Error: {}"
        assert "+ notify: on missed; to hook" in command("apply", str(project)).stdout
        listed = json.loads(command("notify", "list", "--json").stdout)
        assert [each["name"] for each in listed["channels"]] == ["hook"]
        assert [(each["project"], each["on"]) for each in listed["rules"]] == [
            (None, ["failed", "recovered"]),
            ("shop", ["missed"]),
        ]
        assert [each["state"] for each in listed["newest"]] == ["given up", "delivered"]
        project.write_text(project.read_text().replace('to = ["hook"]', 'to = ["pager"]'))
        assert "there is no channel 'pager'" in command("apply", str(project), code=1).stderr
        checks = json.loads(command("doctor", "--json").stdout)["checks"]
        (found,) = [each for each in checks if each["check"] == "notifications"]
        assert found["grade"] == "warn"
        assert "to hook could not be delivered: 1 was given up" in found["detail"]
