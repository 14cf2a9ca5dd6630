"""Send GraphQL operations over HTTP and map answers to flowherd's errors; knows no operation by name.

Conventions of this API, as its real clients and servers have them: POST only, `variables` is sent as JSON text, a
success has no key "errors", and a refusal is HTTP 200 with errors in the body.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from flowherd import __version__
from flowherd.backends.http import (
    DIRECT,
    HttpAnswer,
    HttpClient,
    bounded_text,
    is_web_page,
    json_body,
    raise_for_common_status,
)
from flowherd.config.route import Route
from flowherd.config.urls import without_user
from flowherd.errors import BackendRefused, BackendUnavailable, ClaimLost, NotAuthorized
from flowherd.story.asked_by import BY_HEADER, by_header

#: Header of every answer of flowherd's own server; shows that its extensions are available.
SERVER_HEADER = "X-Flowherd-Server"
#: Header with another value after each start of that server.
INSTANCE_HEADER = "X-Flowherd-Instance"
#: Header of its answers if it was started on an older copy of its database than was there before.
RESTORED_HEADER = "X-Flowherd-Restored"
#: Header in which it lists extensions that its first release did not have, separated by commas.
EXTENSIONS_HEADER = "X-Flowherd-Extensions"
#: Header with the path of that server's lane, percent-encoded; only for clients that are let in.
LANE_HEADER = "X-Flowherd-Lane"
#: The extension of `write_run_logs` for text so far, and the table `text_so_far`.
TEXT_SO_FAR = "text-so-far"
#: The extensions by which agents share due runs: the operations `offer_runs` and `claim_runs`.
SHARING = frozenset({"offers", "claim-runs"})
#: The extension by which `offer_runs` takes what an agent reports of itself.
AGENT_REPORTS = "agent-reports"
#: The extension by which it takes figures of running runs, says whether somebody watches, and passes on what an agent
#: is asked: `report_agent`, `ask_agent`, the fields `figures`, `curve`, `processes` and `stuck` of flow runs.
LIVE_REPORTS = "live-reports"
#: The extension by which a request is held until a flow run has ended.
WAIT_FOR_END = "wait-for-end"
#: The extension of schedules: flowherd's own clock, and the query `schedule_times`.
SCHEDULES = "schedules"
#: The extensions for many runs in one request, `cancel_flow_runs` and `delete_flow_runs`, and `retry_flow_runs`.
SEVERAL_RUNS = "several-runs"
RETRY = "retry"
#: The extension by which a flow says how many of its runs may overlap, which missed ones still run, and how often a
#: failed one is tried again (flow_rules.py).
FLOW_RULES = "flow-rules"
#: The extension that makes the flows of a project what a project file says, `apply_flows`.
APPLY = "apply"
#: The extension by which the report of an end carries an account (story/account.py).
ACCOUNTS = "accounts"
#: The extension of who created a run, cancelled it, or switched a schedule.
BY = "by"
#: The extension of notifications: their tables, `test_notification`, and rules in `apply_flows`.
NOTIFICATIONS = "notifications"
#: The extension of tokens of single flow runs (run_token.py).
RUN_TOKENS = "run-tokens"
_GRAPHQL = "/graphql"
#: Statuses of an address that takes no operations.
_NO_ENDPOINT = frozenset({301, 302, 307, 308, 404, 405})
#: The servers' message for a flow run that another agent has.
_CLAIM_LOST_TEXT = "State update failed"
_VERSION_LOCK_CODE = "VERSION_LOCKING_ERROR"


class GraphQLTransport:
    """A connection to one GraphQL endpoint; usable from several threads, each with its own HTTP session.

    `api` is the address; `endpoint` is where operations are posted to. Without the latter that is `api`, as in Prefect
    1.x, or with /graphql after it, as in 0.x: always if `api` has no path, and otherwise if there is nothing at `api`
    itself. `route` is the way there; `plain` is for a short program of one thread, see HttpClient.
    Raises ValueError if it is no http(s) address.
    """

    def __init__(
        self,
        api: str,
        token: str = "",
        timeout_s: float = 15.0,
        *,
        endpoint: str = "",
        route: Route = DIRECT,
        plain: bool = False,
    ) -> None:
        parts = urlsplit(api)
        self.api = api
        self.route = route
        self.token = token
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"not an http(s) address: {api!r}")
        origin = f"{parts.scheme}://{parts.netloc}"
        path = parts.path.rstrip("/")
        prefix, found, _ = f"{path}/".partition("/graphql/")
        #: Address of the server, with the path at which a gate has it.
        self.base = origin + (prefix if found else path)
        #: The same for messages.
        self.origin = without_user(self.base)
        self.endpoint = endpoint or origin + (path or _GRAPHQL)
        #: Where to post if there is nothing at the endpoint; empty if it is certain.
        self._other_endpoint = "" if endpoint or found or not path else self.endpoint + _GRAPHQL
        #: Version of flowherd's own server as of the latest answer; None for any other server.
        self.server_version: str | None = None
        #: Extensions of flowherd's own server as of the latest answer.
        self.server_extensions: frozenset[str] = frozenset()
        #: Which life of flowherd's own server answered last; empty for other servers and for 0.1.0.
        self.server_instance = ""
        #: Whether that server was started on an older copy of its database.
        self.server_restored = False
        #: Where that server's lane is, if this host has it; None if it has none.
        self.server_lane: Path | None = None
        self._timeout_s = timeout_s
        headers = {"X-PREFECT-CORE-VERSION": f"flowherd-{__version__}"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._http = HttpClient(headers, route, plain=plain)
        #: Headers that were attached; sent with every request.
        self.attached_headers: dict[str, str] = {}
        #: Who asks, as flowherd's own server is told (story/asked_by.py); empty for an agent.
        self.by = ""

    def attach_headers(self, headers: Mapping[str, str]) -> None:
        """Send these headers with every later request."""
        self.attached_headers.update(headers)
        self._http.attach_headers(headers)

    def execute(
        self, query: str, variables: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Execute one operation and return the `data` of its answer. `headers` are for this request only.

        Raises BackendUnavailable (no answer, or none that can be understood), NotAuthorized, ClaimLost or
        BackendRefused.
        """
        return _data(self._execute(query, variables, headers))

    def answer(
        self, query: str, variables: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Execute one operation and return its whole answer, with its `errors` if it has any; raises as `execute`."""
        return _answer(self._execute(query, variables, headers))

    def request(self, method: str, url: str, headers: Mapping[str, str] | None = None, **content: Any) -> Any:
        """Send a request and return the JSON value of its answer; raises as `execute` does.

        `content` is what requests takes: json, params. Another server than this gets neither the token nor the headers
        that were attached or that the settings have for this one.
        """
        if url == self.base or url.startswith(f"{self.base}/"):
            response = self._send(method, url, timeout_s=self._timeout_s, headers=headers, **content)
        else:
            with contextlib.closing(HttpClient({}, replace(self.route, headers={}))) as http:
                response = http.send(method, url, timeout_s=self._timeout_s, headers=headers, **content)
        _raise_for_status(response)
        return json_body(response)

    def mutate(self, name: str, value: Mapping[str, Any], selection: str) -> dict[str, Any]:
        """Execute the mutation `name` with one input and return its result; raises as `execute` does."""
        query = f"mutation($input: {name}_input!) {{ {name}(input: $input) {{ {selection} }} }}"
        result = self.execute(query, {"input": value}).get(name)
        if not isinstance(result, dict):
            raise BackendUnavailable(f"{without_user(self.endpoint)} answered {name} without a result")
        return result

    def get(self, path: str, params: Mapping[str, Any], timeout_s: float) -> Any:
        """Return the JSON answer to a GET beside the GraphQL endpoint; raises as `execute` does."""
        response = self._send("GET", self.base + path, timeout_s=timeout_s, params=params)
        _raise_for_status(response)
        return json_body(response)

    def post(self, path: str, timeout_s: float) -> Any:
        """Return the JSON answer to a POST without a body beside the GraphQL endpoint; raises as `execute` does."""
        response = self._send("POST", self.base + path, timeout_s=timeout_s)
        _raise_for_status(response)
        return json_body(response)

    def close(self) -> None:
        """Close this thread's session."""
        self._http.close()

    def _execute(
        self, query: str, variables: Mapping[str, Any] | None, headers: Mapping[str, str] | None
    ) -> HttpAnswer:
        if self.by and self.server_version is not None:
            headers = {**(headers or {}), BY_HEADER: by_header(self.by)}
        content = {"headers": headers, "json": {"query": query, "variables": json.dumps(variables)}}
        response = self._send("POST", self.endpoint, timeout_s=self._timeout_s, **content)
        return self._at_either(response, content) if self._other_endpoint else response

    def _at_either(self, response: HttpAnswer, content: Mapping[str, Any]) -> HttpAnswer:
        """Return the answer of the other endpoint if the first has answered that it is none, and stay there."""
        if response.status_code in _NO_ENDPOINT or (response.ok and is_web_page(response)):
            other = self._send("POST", self._other_endpoint, timeout_s=self._timeout_s, **content)
            if other.status_code in _NO_ENDPOINT or is_web_page(other):
                return response
            response, self.endpoint = other, self._other_endpoint
        self._other_endpoint = ""
        return response

    def _send(self, method: str, url: str, *, timeout_s: float, **content: Any) -> HttpAnswer:
        response = self._http.send(method, url, timeout_s=timeout_s, **content)
        self.server_version = response.headers.get(SERVER_HEADER)
        self.server_instance = response.headers.get(INSTANCE_HEADER) or ""
        self.server_restored = RESTORED_HEADER in response.headers
        lane = response.headers.get(LANE_HEADER)
        self.server_lane = Path(os.fsdecode(unquote_to_bytes(lane))) if lane else None
        named = response.headers.get(EXTENSIONS_HEADER) or ""
        self.server_extensions = frozenset(name.strip() for name in named.split(","))
        return response


def _data(response: HttpAnswer) -> dict[str, Any]:
    answer = _answer(response)
    if answer.get("errors"):
        raise refusal(answer["errors"])
    data = answer.get("data")
    if not isinstance(data, dict):
        raise BackendUnavailable(f"{without_user(response.url)} answered without data")
    return data


def _answer(response: HttpAnswer) -> dict[str, Any]:
    _raise_for_status(response)
    answer = json_body(response)
    if not isinstance(answer, dict):
        raise BackendUnavailable(f"{response.url} answered with JSON that is not a GraphQL answer")
    return answer


def _raise_for_status(response: HttpAnswer) -> None:
    status = response.status_code
    if status == 200:
        return
    raise_for_common_status(response, "token")
    try:
        errors = json_body(response).get("errors")
    except (BackendUnavailable, AttributeError):
        errors = None
    if errors:
        raise refusal(errors)
    if status == 404 or not 400 <= status < 600:
        # No server of this API answers so at its address, so something else is listening there now.
        raise BackendUnavailable(f"{without_user(response.url)} answered HTTP {status}")
    raise BackendRefused(f"{without_user(response.url)} answered HTTP {status}", code=str(status))


def refusal(errors: Any) -> BackendRefused | BackendUnavailable:
    """Return the error that the first of a GraphQL answer's errors stands for."""
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    message = bounded_text(first.get("message") or errors)
    extensions = first.get("extensions")
    code = extensions.get("code") if isinstance(extensions, dict) else None
    code = code if isinstance(code, str) else None
    if "UNAUTHENTICATED" in (code, message) or "Malformed Authorization header" in message:
        return NotAuthorized(message, code)
    if _CLAIM_LOST_TEXT in message or code == _VERSION_LOCK_CODE:
        return ClaimLost(message, code)
    if code == "API_ERROR":
        return BackendUnavailable(message)
    return BackendRefused(message, code)
