"""The stream of a page that is open: what changes on it, and when it ends."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from queue import Empty, Queue
from socket import SHUT_RDWR
from typing import Any
from urllib.parse import quote

import pytest
import requests

from tests.support.dialect import Client
from tests.support.server import running_server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")

Event = tuple[str, Any]


class Stream:
    """A page's stream, as a browser reads it."""

    def __init__(self, url: str, address: str, after: int | None = None) -> None:
        self._connection = HTTPConnection(url.removeprefix("http://"), timeout=30)
        self._connection.connect()
        self._socket = self._connection.sock
        lines = "" if after is None else f"&after={after}"
        self._connection.request("GET", f"/events?view={quote(address, safe='')}{lines}")
        self._response = self._connection.getresponse()
        self._events: Queue[Event | None] = Queue()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def until(self, wanted: Callable[[Event], bool], what: str) -> Any:
        """Return the data of the first event that is wanted."""
        for _ in range(1000):
            try:
                event = self._events.get(timeout=20)
            except Empty:
                break
            if event is None:
                break
            if wanted(event):
                return event[1]
        raise AssertionError(f"no {what}")

    def wait_for_end(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive(), "the stream goes on"

    def close(self) -> None:
        with suppress(OSError):  # the server has ended it
            self._socket.shutdown(SHUT_RDWR)
        self._thread.join(20)
        self._response.close()
        self._connection.close()

    def _read(self) -> None:
        name = ""
        with suppress(OSError, HTTPException):  # closed
            for line in self._response:
                field, _, value = line.decode().rstrip().partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    self._events.put((name, json.loads(value)))
        self._events.put(None)


def write(client: Client, run_id: str, *messages: str) -> None:
    given = {"flow_run_id": run_id, "timestamp": "2026-11-27T02:30:00Z", "level": "INFO", "info": {"stream": "stdout"}}
    client.do("write_run_logs", logs=[{**given, "message": text} for text in messages])


@contextmanager
def stream(client: Client, address: str, after: int | None = None) -> Iterator[Stream]:
    opened = Stream(client.server.url, address, after)
    try:
        yield opened
    finally:
        opened.close()


def is_part(start: str, text: str = "") -> Callable[[Event], bool]:
    return lambda event: event[0] == "part" and event[1]["id"].startswith(start) and text in event[1]["html"]


def test_a_run_that_starts_and_ends_is_shown_where_it_belongs(client: Client) -> None:
    run_id = client.create_run()
    with stream(client, "/") as events:
        known = events.until(lambda event: event[0] == "state", "state")
        assert {"headline", "agents", "nav"} <= known.keys()
        assert f"run-{run_id}" not in known
        client.report(run_id, "Running")
        part = events.until(is_part(f"run-{run_id}", "Running"), "row of the run")
        assert part["into"] == "running"
        client.report(run_id, "Failed", message="<b>no</b>")
        part = events.until(is_part(f"run-{run_id}", "Failed"), "row of the end")
        assert part["into"] == "ended"
        assert "&lt;b&gt;no" in part["html"]


def test_what_has_not_changed_is_not_sent(client: Client) -> None:
    run_id = client.create_run()
    with stream(client, "/") as events:
        events.until(lambda event: event[0] == "state", "state")
        client.report(run_id, "Running")
        sent: list[str] = []
        events.until(
            lambda event: event[0] == "part" and (sent.append(event[1]["id"]) or event[1]["id"] == f"run-{run_id}"),  # type: ignore[func-returns-value]
            "row of the run",
        )
        assert "day" not in sent, "no run has ended"


def test_the_parts_of_a_page_have_the_versions_that_its_stream_names(client: Client) -> None:
    """So a page fetches itself anew only if it has missed something."""
    run_id = client.create_run()
    with stream(client, "/") as events:
        client.report(run_id, "Running")
        part = events.until(is_part(f"run-{run_id}", "Running"), "row of the run")
        version = part["html"].split('data-v="')[1].split('"')[0]
        assert f'<tr id="run-{run_id}" data-v="{version}"' in client.server.get("/").text
        with stream(client, "/") as later:
            known = later.until(lambda event: event[0] == "state", "state")
            assert known[f"run-{run_id}"] == version


def test_the_lines_of_a_run_follow_on_its_page_until_its_end(client: Client) -> None:
    run_id = client.create_run()
    client.report(run_id, "Running")
    write(client, run_id, "before")
    page = client.server.get(f"/runs/{run_id}").text
    assert f'data-live="/events?view=%2Fruns%2F{run_id}&amp;after=1"' in page
    with stream(client, f"/runs/{run_id}", after=1) as events:
        events.until(lambda event: event[0] == "state", "state")
        write(client, run_id, "later", "last <b>")
        got = events.until(lambda event: event[0] == "lines" and event[1]["last"] == 3, "new lines")
        assert "before" not in got["html"]
        assert 'id="L3"' in got["html"]
        assert "last &lt;b&gt;" in got["html"]
        client.report(run_id, "Failed", message="no")
        assert "Failed" in events.until(is_part("headline", "Failed"), "state of the end")["html"]


def test_figures_and_lines_reach_the_pages_that_show_them_alone(client: Client) -> None:
    """They are looked at without the rest of the page, until more has changed."""
    agent = client.agent("watched")
    run_id = agent.create_run(labels=["watched"])
    agent.report(run_id, "Running")

    def use(mebibytes: int) -> None:
        figures = {"id": run_id, "at": time.time(), "memory_bytes": mebibytes << 20, "processes": 1}
        report = {"instance": "x", "host": "here", "limit": 1, "runs": 1, "run_figures": [figures]}
        agent.do("offer_runs", holder="x", labels=["watched"], room=1, report=report)

    with (
        stream(client, "/") as overview,
        stream(client, "/runs") as listed,
        stream(client, f"/runs/{run_id}", 0) as run,
    ):
        for events in (overview, listed, run):
            events.until(lambda event: event[0] == "state", "state")
        use(100)
        assert overview.until(is_part(f"run-{run_id}", "100 MiB"), "memory in the row")["into"] == "running"
        run.until(is_part("facts", "100 MiB"), "memory of the run")
        use(200)
        run.until(is_part("facts", "200 MiB"), "more memory")
        write(client, run_id, "a line")
        for events in (overview, listed):
            events.until(is_part(f"run-{run_id}", "a line"), "last line in the row")
        run.until(is_part("facts", "1 line"), "number of lines")
        run.until(lambda event: event[0] == "lines" and "a line" in event[1]["html"], "new line")
        notice = {"flow_run_id": run_id, "timestamp": "2026-11-27T02:30:00Z", "level": "INFO"}
        client.do("write_run_logs", logs=[{**notice, "message": "Adopted by another", "info": {"stream": "flowherd"}}])
        run.until(is_part("story", "dopted"), "what flowherd has noted in the log")
        agent.report(run_id, "Success")
        assert overview.until(is_part(f"run-{run_id}", "Success"), "end in the row")["into"] == "ended"
        run.until(is_part("headline", "Success"), "end of the run")


def test_an_address_without_live_parts_ends_at_once(client: Client) -> None:
    with stream(client, "/nothing-like-it") as events:
        events.wait_for_end()


def test_streams_end_with_the_server_and_with_their_reader(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        client = Client(server)
        with stream(client, "/") as first, stream(client, "/") as second:
            for events in (first, second):
                events.until(lambda event: event[0] == "state", "state")
            server.stop()
            for events in (first, second):
                events.wait_for_end()
        server.start()
        opened = [requests.get(f"{server.url}/events?view=/", stream=True, timeout=30) for _ in range(51)]
        assert [each.status_code for each in opened] == [200] * 50 + [503]
        for each in opened:
            each.close()

        def is_open_again() -> bool:
            with requests.get(f"{server.url}/events?view=/", stream=True, timeout=30) as one:
                return one.status_code == 200

        wait_until(is_open_again, what="room for a stream after readers have left")
