"""A state that is reported late says when it happened where the server dates states itself."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from flowherd.backends.graphql.backend import GraphQLBackend
from flowherd.backends.graphql.transport import SERVER_HEADER, GraphQLTransport
from flowherd.states import RunState
from flowherd.values import StateReport
from tests.support.http_server import Answer, Request, http_server

RUN_ID = "211f04ad-22d0-4ec2-a018-12f0f1e7774c"


@pytest.mark.parametrize(
    ("headers", "age_s", "is_dated"),
    [({}, 3600, True), ({}, 1, False), ({SERVER_HEADER: "0.2"}, 3600, False)],
    ids=["Prefect Server, late", "Prefect Server, at once", "embedded server, late"],
)
def test_the_message_says_when_it_happened(headers: dict[str, str], age_s: float, is_dated: bool) -> None:
    sent: list[dict[str, Any]] = []

    def answer(request: Request) -> Answer:
        body = json.loads(request.body)
        if "set_flow_run_states" not in body["query"]:
            return Answer(headers=headers, body=b'{"data": {"hello": "x", "tenant": []}}')
        sent.append(body)
        return Answer(headers=headers, body=b'{"data": {"set_flow_run_states": {"states": []}}}')

    at = datetime.now(timezone.utc) - timedelta(seconds=age_s)
    with http_server(answer) as url:
        backend = GraphQLBackend(GraphQLTransport(url))
        backend.connect()
        backend.report(StateReport(flow_run_id=RUN_ID, state=RunState.SUCCESS, message="done", at=at))
        backend.close()
    text = json.dumps(sent[0])
    assert (f"done (at {at:%Y-%m-%d %H:%M:%S} UTC, reported later)" in text) is is_dated
    assert "done" in text
    assert at.isoformat() in text, "the embedded server takes it from the context"
