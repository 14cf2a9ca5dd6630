"""What an answer of Prefect 3's API means, over real HTTP, and how claim tokens travel."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from flowherd.backends.prefect3.claim_tokens import ClaimTokens, report_id
from flowherd.backends.prefect3.transport import Prefect3Transport
from flowherd.errors import BackendRefused, BackendUnavailable, NotAuthorized


@dataclass
class Canned:
    """A server that gives prepared answers, the last one for ever, and remembers what it was asked."""

    url: str = ""
    #: Status, headers, body.
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=lambda: [(200, {}, b"{}")])
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)


@pytest.fixture
def canned() -> Iterator[Canned]:
    state = Canned()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            state.requests.append((self.command, self.path, dict(self.headers)))
            status, headers, body = state.answers[0] if len(state.answers) == 1 else state.answers.pop(0)
            self.send_response_only(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = answer

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}/api"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        server.shutdown()
        thread.join()


@pytest.fixture
def transport(canned: Canned) -> Iterator[Prefect3Transport]:
    transport = Prefect3Transport(canned.url, api_key="secret", timeout_s=5)
    yield transport
    transport.close()


def test_credentials_travel_in_the_header_only_and_name_and_password_win(canned: Canned) -> None:
    for given, header in ((("key", ""), "Bearer key"), (("key", "a:b"), "Basic YTpi"), (("", ""), None)):
        transport = Prefect3Transport(canned.url, api_key=given[0], auth_string=given[1])
        transport.get("/health")
        transport.close()
        assert canned.requests[-1][1:2] == ("/api/health",)
        assert canned.requests[-1][2].get("Authorization") == header


@pytest.mark.parametrize("status", [301, 408, 429, 500, 502, 504])
def test_passing_trouble_is_unavailable(canned: Canned, transport: Prefect3Transport, status: int) -> None:
    canned.answers = [(status, {"Retry-After": "7"}, b"<html>")]
    with pytest.raises(BackendUnavailable) as caught:
        transport.post("/x", {})
    assert caught.value.retry_after_s == (None if status == 301 else 7.0)


@pytest.mark.parametrize(
    ("wish", "now", "seconds"),
    [
        ("Tue, 24 Nov 2026 10:00:09 GMT", "Tue, 24 Nov 2026 10:00:02 GMT", 7.0),  # whatever this host's clock says
        ("Tue, 24 Nov 2026 10:00:00 GMT", "Tue, 24 Nov 2026 10:00:02 GMT", 0.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:36 GMT", 1.0),
        ("Fri, 24 Dec 2027 10:00:00 GMT", "Tue, 24 Nov 2026 10:00:00 GMT", 900.0),
        ("soon", "Tue, 24 Nov 2026 10:00:02 GMT", None),
        ("-3", "", None),
        ("nan", "", None),
    ],
)
def test_until_when_a_server_wishes_not_to_be_asked_may_be_a_date(
    canned: Canned, transport: Prefect3Transport, wish: str, now: str, seconds: float | None
) -> None:
    canned.answers = [(429, {"Retry-After": wish, "Date": now}, b"")]
    with pytest.raises(BackendUnavailable) as caught:
        transport.get("/x")
    assert caught.value.retry_after_s == seconds


def test_a_busy_server_is_asked_again_and_not_where_that_could_do_harm(
    canned: Canned, transport: Prefect3Transport
) -> None:
    busy = (503, {}, b"{}")
    canned.answers = [busy, busy, (200, {}, b"5")]
    assert transport.post("/x", {}) == 5
    canned.answers = [busy, (200, {}, b"5")]
    with pytest.raises(BackendUnavailable):
        transport.post("/x", {}, once=True)


def test_a_busy_server_that_names_a_time_is_left_alone_until_then(canned: Canned, transport: Prefect3Transport) -> None:
    canned.answers = [(503, {"Retry-After": "9"}, b"")]
    with pytest.raises(BackendUnavailable) as caught:
        transport.get("/x")
    assert (caught.value.retry_after_s, len(canned.requests)) == (9.0, 1)


@pytest.mark.parametrize("status", [401, 403])
def test_credentials_that_are_not_accepted_are_told_so(
    canned: Canned, transport: Prefect3Transport, status: int
) -> None:
    canned.answers = [(status, {}, b'{"detail": "no"}')]
    with pytest.raises(NotAuthorized):
        transport.get("/x")


@pytest.mark.parametrize("status", [400, 404, 409, 422])
def test_a_refusal_tells_the_reason_and_not_the_request(
    canned: Canned, transport: Prefect3Transport, status: int
) -> None:
    complaint = {"loc": ["body", "state"], "msg": "is missing", "input": "hidden"}
    body = {"exception_message": "Invalid.", "exception_detail": [complaint], "request_body": "hidden"}
    canned.answers = [(status, {}, json.dumps(body).encode())]
    with pytest.raises(BackendRefused, match="is missing") as caught:
        transport.post("/x", {})
    assert caught.value.code == str(status) and "hidden" not in str(caught.value)


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b"{}"])
def test_a_404_that_is_not_prefects_is_unavailable(canned: Canned, transport: Prefect3Transport, body: bytes) -> None:
    canned.answers = [(404, {}, body)]
    with pytest.raises(BackendUnavailable):
        transport.get("/x")


@pytest.mark.parametrize("body", [b"", b"<html>", b"{", b"NaN", b"[1e999]", b"[" * 100_000])
def test_an_answer_that_is_no_json_is_unavailable(canned: Canned, transport: Prefect3Transport, body: bytes) -> None:
    canned.answers = [(200, {}, body)]
    with pytest.raises(BackendUnavailable):
        transport.get("/x")


def test_nothing_is_an_answer_where_the_status_says_so(canned: Canned, transport: Prefect3Transport) -> None:
    canned.answers = [(204, {}, b"")]
    assert transport.patch("/x", {}) is None


def test_a_server_that_wants_a_token_for_changes_is_asked_for_one(canned: Canned, transport: Prefect3Transport) -> None:
    canned.answers = [
        (403, {}, b'{"detail": "Missing CSRF token."}'),
        (200, {}, b'{"token": "t0ken", "client": "c"}'),
        (200, {}, b"1"),
    ]
    assert transport.post("/x", {}) == 1
    asked, again = canned.requests[1:]
    assert asked[1].startswith("/api/csrf-token?client=")
    assert again[2]["Prefect-Csrf-Token"] == "t0ken" and again[2]["Prefect-Csrf-Client"] in asked[1]


@pytest.mark.parametrize(
    ("offset_s", "believed_s"), [(0, 0), (1, 0), (-5, 0), (20, 20), (-3600, -3600)], ids=lambda value: f"{value} s"
)
def test_a_servers_clock_is_believed_where_its_date_can_tell(
    canned: Canned, transport: Prefect3Transport, offset_s: int, believed_s: int
) -> None:
    told = datetime.now(timezone.utc) + timedelta(seconds=offset_s)
    canned.answers = [(200, {"Date": format_datetime(told, usegmt=True)}, b"1")]
    transport.get("/x")
    found_s = (transport.server_now() - datetime.now(timezone.utc)).total_seconds()
    assert abs(found_s - believed_s) < 1.5 if believed_s else abs(found_s) < 0.1


@pytest.mark.parametrize("address", ["", "host:4200/api", "ftp://host/api", "http://host:4200"])
def test_what_is_no_address_of_the_api_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="no address of a Prefect 3 API"):
        Prefect3Transport(address)


# -- tokens


def test_an_agents_token_is_read_back_by_any_later_agent() -> None:
    run_id = str(uuid.uuid4())
    token = f"{uuid.uuid4().hex}/{run_id}"
    assert ClaimTokens().token(ClaimTokens().transition_id(token, run_id), run_id) == token


@pytest.mark.parametrize("token", ["mine", "x/y", f"{'z' * 32}/RUN", f"{'5' * 32}/another"])
def test_a_token_of_another_form_is_read_back_by_whoever_made_it(token: str) -> None:
    tokens, run_id = ClaimTokens(), str(uuid.uuid4())
    transition_id = tokens.transition_id(token.replace("RUN", run_id), run_id)
    assert tokens.token(transition_id, run_id) == token.replace("RUN", run_id)
    assert ClaimTokens().token(transition_id, run_id) != token


def test_a_report_has_an_id_of_its_own_that_is_the_same_when_it_is_told_again() -> None:
    at = datetime.now(timezone.utc)
    assert report_id("token", "Failed", at) == report_id("token", "Failed", at)
    assert report_id("token", "Failed", at) != report_id("token", "Cancelled", at)
    assert ClaimTokens().token(None, "run") is None
