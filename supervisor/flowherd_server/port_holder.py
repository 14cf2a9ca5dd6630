"""What already listens at an address that the server wants, as far as it says so: for the message of the refusal."""

from __future__ import annotations

import http.client
import json

from flowherd_server.web.guard import SERVER_HEADER

_TIMEOUT_S = 1.0
_MAX_BYTES = 4096


def port_holder(host: str, port: int) -> str:
    """Return what answers at the address, as the subject of a sentence."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    status, ours, _ = _get(host, port, "/health")
    if ours:
        return f"a flowherd server ({ours:.40})"
    if not status:
        return "another program"
    # https://docs.prefect.io/v3/api-ref/rest-api/server/admin/read-version, also of 2.x
    status, _, version = _get(host, port, "/api/admin/version")
    if status == http.client.OK and isinstance(version, str):
        return f"a Prefect server ({version:.40}), whose default port is 4200 too,"
    # https://www.apollographql.com/docs/apollo-server/v2/monitoring/health-checks; the API of Prefect 0.x/1.x is one
    status, _, answer = _get(host, port, "/.well-known/apollo/server-health")
    if status == http.client.OK and answer == {"status": "pass"}:
        return "an Apollo server, perhaps Prefect Server 0.x/1.x, whose default port is 4200 too,"
    return "another server"


def _get(host: str, port: int, path: str) -> tuple[int, str, object]:
    """Return status, version of flowherd and JSON of an answer; 0 without an answer, empty and None if it has none."""
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        ours, content = answer.headers.get(SERVER_HEADER, ""), answer.read(_MAX_BYTES)
    except (OSError, http.client.HTTPException):
        return 0, "", None
    finally:
        connection.close()
    try:
        return answer.status, ours, json.loads(content)
    except (ValueError, RecursionError):
        return answer.status, ours, None
