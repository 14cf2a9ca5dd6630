"""What the refusal of a port says about the program that listens there."""

from __future__ import annotations

import pytest

from flowherd_server.port_holder import port_holder
from tests.support.http_server import Answer, Request, http_server
from tests.support.ports import free_port

#: What the servers of Prefect answer, by path; all else is 404.
PREFECT3 = {"/api/admin/version": b'"3.4.25"', "/health": b"true"}
APOLLO = {"/.well-known/apollo/server-health": b'{"status":"pass"}'}
OTHER = {"/api/admin/version": b"<html>", "/.well-known/apollo/server-health": b"[" * 2000}


@pytest.mark.parametrize(
    ("pages", "said"),
    [(PREFECT3, "a Prefect server (3.4.25)"), (APOLLO, "Prefect Server 0.x/1.x"), (OTHER, "another server")],
)
def test_a_server_is_named_by_what_it_answers(pages: dict[str, bytes], said: str) -> None:
    def answer(request: Request) -> Answer:
        return Answer(body=pages[request.path]) if request.path in pages else Answer(status=404)

    with http_server(answer) as address:
        assert said in port_holder("0.0.0.0", int(address.rpartition(":")[2]))


def test_what_speaks_no_http_is_another_program() -> None:
    assert port_holder("127.0.0.1", free_port()) == "another program"
