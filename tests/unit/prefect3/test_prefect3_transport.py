"""Which error an answer of Prefect 3's API means, over real HTTP, and how claim tokens become transition ids."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from flowherd.backends.prefect3.claim_tokens import ClaimTokens, report_transition_id
from flowherd.backends.prefect3.transport import Prefect3Transport
from flowherd.errors import BackendRefused, BackendUnavailable, NotAuthorized
from tests.support.http_server import Answer, CannedServer, canned_server


@pytest.fixture
def canned() -> Iterator[CannedServer]:
    with canned_server() as server:
        server.url += "/api"
        yield server


@pytest.fixture
def transport(canned: CannedServer) -> Iterator[Prefect3Transport]:
    transport = Prefect3Transport(canned.url, api_key="secret", timeout_s=5)
    yield transport
    transport.close()


def test_credentials_are_sent_in_the_header_only_and_name_and_password_win(canned: CannedServer) -> None:
    for given, header in ((("key", ""), "Bearer key"), (("key", "a:b"), "Basic YTpi"), (("", ""), None)):
        transport = Prefect3Transport(canned.url, api_key=given[0], auth_string=given[1])
        transport.get("/health")
        transport.close()
        assert canned.requests[-1].path == "/api/health"
        assert canned.requests[-1].headers.get("Authorization") == header


@pytest.mark.parametrize("status", [301, 408, 429, 500, 502, 504])
def test_a_temporary_status_is_unavailable(canned: CannedServer, transport: Prefect3Transport, status: int) -> None:
    canned.answers = [Answer(status=status, headers={"Retry-After": "7"}, body=b"<html>")]
    with pytest.raises(BackendUnavailable) as caught:
        transport.post("/x", {})
    assert caught.value.retry_after_s == (None if status == 301 else 7.0)


def test_a_request_to_a_busy_server_is_repeated_unless_that_could_do_harm(
    canned: CannedServer, transport: Prefect3Transport
) -> None:
    busy = Answer(status=503)
    canned.answers = [busy, busy, Answer(body=b"5")]
    assert transport.post("/x", {}) == 5
    canned.answers = [busy, Answer(body=b"5")]
    with pytest.raises(BackendUnavailable):
        transport.post("/x", {}, once=True)


def test_a_request_to_a_busy_server_that_sends_retry_after_is_not_repeated(
    canned: CannedServer, transport: Prefect3Transport
) -> None:
    canned.answers = [Answer(status=503, headers={"Retry-After": "9"})]
    with pytest.raises(BackendUnavailable) as caught:
        transport.get("/x")
    assert (caught.value.retry_after_s, len(canned.requests)) == (9.0, 1)


@pytest.mark.parametrize("status", [401, 403])
def test_credentials_that_are_not_accepted_are_not_authorized(
    canned: CannedServer, transport: Prefect3Transport, status: int
) -> None:
    canned.answers = [Answer(status=status, body=b'{"detail": "no"}')]
    with pytest.raises(NotAuthorized):
        transport.get("/x")


@pytest.mark.parametrize("status", [400, 404, 409, 422])
def test_a_refusal_has_the_servers_reason_and_not_the_request(
    canned: CannedServer, transport: Prefect3Transport, status: int
) -> None:
    detail = {"loc": ["body", "state"], "msg": "is missing", "input": "hidden"}
    body = {"exception_message": "Invalid.", "exception_detail": [detail], "request_body": "hidden"}
    canned.answers = [Answer(status=status, body=json.dumps(body).encode())]
    with pytest.raises(BackendRefused, match="is missing") as caught:
        transport.post("/x", {})
    assert caught.value.code == str(status) and "hidden" not in str(caught.value)


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b"{}"])
def test_a_404_without_a_reason_does_not_come_from_prefect_and_is_unavailable(
    canned: CannedServer, transport: Prefect3Transport, body: bytes
) -> None:
    canned.answers = [Answer(status=404, body=body)]
    with pytest.raises(BackendUnavailable):
        transport.get("/x")


@pytest.mark.parametrize("body", [b"", b"<html>", b"{", b"NaN", b"[1e999]", b"[" * 100_000])
def test_an_answer_that_is_not_json_is_unavailable(
    canned: CannedServer, transport: Prefect3Transport, body: bytes
) -> None:
    canned.answers = [Answer(body=body)]
    with pytest.raises(BackendUnavailable):
        transport.get("/x")


def test_an_empty_body_is_an_answer_only_with_status_204(canned: CannedServer, transport: Prefect3Transport) -> None:
    canned.answers = [Answer(status=204, body=b"")]
    assert transport.patch("/x", {}) is None


def test_a_csrf_token_is_requested_from_a_server_that_requires_one(
    canned: CannedServer, transport: Prefect3Transport
) -> None:
    canned.answers = [
        Answer(status=403, body=b'{"detail": "Missing CSRF token."}'),
        Answer(body=b'{"token": "t0ken", "client": "c"}'),
        Answer(body=b"1"),
    ]
    assert transport.post("/x", {}) == 1
    asked, repeated = canned.requests[1:]
    assert asked.path.startswith("/api/csrf-token?client=")
    assert repeated.headers["Prefect-Csrf-Token"] == "t0ken"
    assert repeated.headers["Prefect-Csrf-Client"] in asked.path


@pytest.mark.parametrize(
    ("offset_s", "counted_s"), [(0, 0), (1, 0), (-5, 0), (20, 20), (-3600, -3600)], ids=lambda value: f"{value} s"
)
def test_a_difference_of_the_servers_clock_counts_if_its_date_header_can_show_it(
    canned: CannedServer, transport: Prefect3Transport, offset_s: int, counted_s: int
) -> None:
    date = datetime.now(timezone.utc) + timedelta(seconds=offset_s)
    canned.answers = [Answer(headers={"Date": format_datetime(date, usegmt=True)}, body=b"1")]
    transport.get("/x")
    found_s = (transport.server_now() - datetime.now(timezone.utc)).total_seconds()
    assert abs(found_s - counted_s) < 1.5 if counted_s else abs(found_s) < 0.1


@pytest.mark.parametrize("address", ["", "host:4200/api", "ftp://host/api", "http://host:4200"])
def test_an_address_that_is_not_of_the_api_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="not an address of a Prefect 3 API"):
        Prefect3Transport(address)


# -- claim tokens


def test_an_agents_token_is_read_back_by_any_later_agent() -> None:
    run_id = str(uuid.uuid4())
    token = f"{uuid.uuid4().hex}/{run_id}"
    assert ClaimTokens().token(ClaimTokens().transition_id(token, run_id), run_id) == token


@pytest.mark.parametrize("token", ["mine", "x/y", f"{'z' * 32}/RUN", f"{'5' * 32}/another"])
def test_a_token_of_another_form_is_read_back_only_by_the_agent_that_made_it(token: str) -> None:
    tokens, run_id = ClaimTokens(), str(uuid.uuid4())
    transition_id = tokens.transition_id(token.replace("RUN", run_id), run_id)
    assert tokens.token(transition_id, run_id) == token.replace("RUN", run_id)
    assert ClaimTokens().token(transition_id, run_id) != token


def test_a_report_has_an_id_of_its_own_that_is_the_same_when_it_is_sent_again() -> None:
    at = datetime.now(timezone.utc)
    assert report_transition_id("token", "Failed", at) == report_transition_id("token", "Failed", at)
    assert report_transition_id("token", "Failed", at) != report_transition_id("token", "Cancelled", at)
    assert ClaimTokens().token(None, "run") is None
