"""Send requests to Prefect 3's REST API and map answers to flowherd's errors; knows no endpoint but the CSRF token's.

The server answers in JSON, also when it refuses; an answer that is not JSON comes from something else at its address.
"""

from __future__ import annotations

import base64
import random
import time
import uuid
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlsplit

from flowherd import __version__
from flowherd.backends.http import DIRECT, HttpAnswer, HttpClient, bounded_text, json_body, raise_for_common_status
from flowherd.config.route import Route
from flowherd.config.urls import without_user
from flowherd.errors import BackendError, BackendRefused, BackendUnavailable

#: Smallest clock differences that count, seconds. The Date header has whole seconds and can be some seconds old on a
#: busy server. Taking a server's clock for slower than it is delays runs, so only a large difference counts there.
_AHEAD_S, _BEHIND_S = 2.0, 30.0
#: Number of latest answers whose Date is used; the least stale of them counts.
_CLOCK_SAMPLES = 32
#: Pauses before the retries of a busy server, seconds: a server on SQLite is busy now and then for milliseconds.
_BUSY_PAUSES_S = (0.03, 0.1, 0.3)
#: Maximum number of validation errors shown in a message.
_MAX_VALIDATION_ERRORS = 3


class Prefect3Transport:
    """A connection to one API, as in http://HOST:4200/api; usable from several threads.

    `auth_string` is NAME:PASSWORD for a server with basic authentication and wins over `api_key`, as in Prefect's own
    client. `route` is the way to the API; its headers are stronger than the credentials, as there.

    Raises ValueError if `api` is not such an address.
    """

    def __init__(
        self,
        api: str,
        *,
        api_key: str = "",
        auth_string: str = "",
        route: Route = DIRECT,
        timeout_s: float = 15.0,
    ) -> None:
        parts = urlsplit(api)
        if parts.scheme not in ("http", "https") or not parts.netloc or "/api" not in parts.path:
            raise ValueError(
                f"not an address of a Prefect 3 API, which looks like http://HOST:4200/api: {without_user(api)!r}"
            )
        self.address = api.rstrip("/")
        self.route = route
        self.api_key = api_key
        self.auth_string = auth_string
        self._timeout_s = timeout_s
        self._clock_offsets_s: deque[float] = deque(maxlen=_CLOCK_SAMPLES)
        headers = {"User-Agent": f"flowherd/{__version__}", **_authorization(api_key, auth_string)}
        self._http = HttpClient(headers, route)

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """Send a GET and return the JSON answer. Raises BackendUnavailable, NotAuthorized or BackendRefused."""
        return self._answer("GET", path, params=params)

    def post(self, path: str, body: Any, *, once: bool = False) -> Any:
        """Send a POST and return the JSON answer, None for an answer without content. Raises as `get` does.

        A server that answers that it is busy is tried again shortly, unless `once` is set: for requests that must not
        be repeated if they may have been carried out in part.
        """
        return self._answer("POST", path, () if once else _BUSY_PAUSES_S, json=body)

    def patch(self, path: str, body: Any) -> Any:
        """Send a PATCH and return the JSON answer, None for an answer without content. Raises as `get` does."""
        return self._answer("PATCH", path, json=body)

    def server_now(self) -> datetime:
        """Return the server's time, which decides what is due, as well as it is known from the Date headers."""
        offset_s = max(tuple(self._clock_offsets_s), default=0.0)
        counts = offset_s > _AHEAD_S or offset_s < -_BEHIND_S
        return datetime.now(timezone.utc) + timedelta(seconds=offset_s if counts else 0.0)

    def close(self) -> None:
        """Close this thread's session."""
        self._http.close()

    def _answer(self, method: str, path: str, busy_pauses_s: Iterable[float] = _BUSY_PAUSES_S, **content: Any) -> Any:
        response = self._send(method, path, **content)
        for pause_s in busy_pauses_s:
            if response.status_code != 503 or "Retry-After" in response.headers:
                break
            time.sleep(pause_s * random.uniform(0.5, 1.5))
            response = self._send(method, path, **content)
        if response.status_code == 403 and "CSRF" in response.text:
            self._attach_csrf_token()
            response = self._send(method, path, **content)
        _raise_for_status(response)
        # An empty body is an answer only with status 204; with any other the answer was cut short.
        return None if response.status_code == 204 else json_body(response)

    def _send(self, method: str, path: str, **content: Any) -> HttpAnswer:
        sent_s, sent_at = time.monotonic(), datetime.now(timezone.utc)
        response = self._http.send(method, self.address + path, timeout_s=self._timeout_s, **content)
        self._note_clock(response, sent_at + timedelta(seconds=(time.monotonic() - sent_s) / 2))
        return response

    def _note_clock(self, response: HttpAnswer, at: datetime) -> None:
        """Compare the Date of an answer with this host's time `at` the middle of the request."""
        try:
            date = parsedate_to_datetime(response.headers["Date"])
            # The header leaves out the fraction of the second: half a second on average.
            self._clock_offsets_s.append((date - at).total_seconds() + 0.5)
        except (KeyError, TypeError, ValueError):
            return

    def _attach_csrf_token(self) -> None:
        """Get a CSRF token: servers can be configured to accept changes only from clients that send one."""
        client = str(uuid.uuid4())
        response = self._send("GET", "/csrf-token", params={"client": client})
        _raise_for_status(response)
        answer = json_body(response)
        token = answer.get("token") if isinstance(answer, dict) else None
        if not isinstance(token, str):
            raise BackendUnavailable(f"{without_user(response.url)} answered without a CSRF token")
        self._http.attach_headers({"Prefect-Csrf-Client": client, "Prefect-Csrf-Token": token})


def segment(name: str) -> str:
    """Return a name as one segment of a path."""
    return quote(name, safe="")


def _authorization(api_key: str, auth_string: str) -> dict[str, str]:
    if auth_string:
        return {"Authorization": "Basic " + base64.b64encode(auth_string.encode()).decode()}
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def _raise_for_status(response: HttpAnswer) -> None:
    status = response.status_code
    if 200 <= status < 300:
        return
    raise_for_common_status(response, "credentials")
    reason = _reason(response)
    # Prefect's server sends no redirects and no 404 without a reason, so something else is at its address now.
    if status < 400 or (status == 404 and not reason):
        raise BackendUnavailable(f"{without_user(response.url)} answered HTTP {status}")
    raise BackendRefused(
        f"{without_user(response.url)} answered HTTP {status}: {reason or 'no reason given'}", code=str(status)
    )


def _reason(response: HttpAnswer) -> str:
    """Return the server's reason for a refusal, without the request that it repeats; empty if there is none."""
    try:
        answer = json_body(response)
    except BackendError:
        return ""
    if not isinstance(answer, dict):
        return ""
    errors = answer.get("exception_detail")
    details = [
        f"{item.get('loc')}: {item.get('msg')}"
        for item in (errors[:_MAX_VALIDATION_ERRORS] if isinstance(errors, list) else [])
        if isinstance(item, dict)
    ]
    message = str(answer.get("detail") or answer.get("exception_message") or "")
    return bounded_text(" ".join([message, *details]).strip())
