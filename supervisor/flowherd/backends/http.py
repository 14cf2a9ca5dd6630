"""Send one HTTP request and read its whole answer, bounded in time and size; knows no API.

Also what is the same for every API: which statuses are worth a retry, and how long the server asks to be left alone.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from threading import local
from typing import Any

import requests

from flowherd.errors import BackendUnavailable, NotAuthorized

#: Statuses of a proxy or a server that is busy or down for a moment.
TEMPORARY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
#: Maximum size of an answer, bytes; the longest real ones have some megabytes.
MAX_BODY_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024
#: Time for the body of an answer in addition to the request's time-out, seconds.
_BODY_TIME_S = 30.0
#: Longest pause taken from a Retry-After, seconds; after this the server is contacted again anyway.
_MAX_RETRY_AFTER_S = 900.0
#: The connection object that urllib3 names before the cause of an error.
_CONNECTION_PREFIX = re.compile(r"^<?HTTPS?Connection(Pool)?\b.*?(?:\)|>): ")
#: Maximum length of a server's message, characters.
_MAX_MESSAGE_CHARACTERS = 2000


class HttpClient:
    """Sends requests with the same headers; usable from several threads, each with its own HTTP session.

    `authorities` is a PEM file with the certificate authorities to trust; empty means those of requests.
    """

    def __init__(self, headers: Mapping[str, str], authorities: str = "") -> None:
        self._headers = dict(headers)
        self._authorities = authorities
        self._thread = local()

    def attach_headers(self, headers: Mapping[str, str]) -> None:
        """Send these headers with every later request."""
        self._headers.update(headers)

    def send(
        self, method: str, url: str, *, timeout_s: float, headers: Mapping[str, str] | None = None, **content: Any
    ) -> requests.Response:
        """Send a request and return the answer with its body read; `headers` are for this request only.

        Raises BackendUnavailable if there is no answer, or if it is too large or too slow.
        """
        session: requests.Session | None = getattr(self._thread, "session", None)
        if session is None:
            session = self._thread.session = requests.Session()
            # A token must reach its own address only, so proxies and .netrc of the environment are not used.
            session.trust_env = False
            session.verify = self._authorities or True
        try:
            response = session.request(
                method,
                url,
                headers={**self._headers, **(headers or {})},
                timeout=timeout_s,
                allow_redirects=False,
                stream=True,
                **content,
            )
            _read_body(response, timeout_s + _BODY_TIME_S)
        except (requests.RequestException, ValueError) as error:  # ValueError: a header that is not text
            raise BackendUnavailable(f"no answer from {url}: {_cause(error)}") from error
        if response.status_code >= 500:  # servers close connections after such an answer without announcing it
            session.close()
        return response

    def close(self) -> None:
        """Close this thread's session."""
        session = getattr(self._thread, "session", None)
        if session is not None:
            session.close()
            del self._thread.session


def raise_for_common_status(response: requests.Response, credentials: str) -> None:
    """Raise for the statuses that mean the same in every API; return for all others.

    `credentials` names for the message what the server checks. Raises NotAuthorized for 401 and 403, and
    BackendUnavailable with the server's Retry-After for a temporary status.
    """
    status = response.status_code
    if status in (401, 403):
        raise NotAuthorized(f"{response.url} does not accept the {credentials} (HTTP {status})", code=str(status))
    if status in TEMPORARY_STATUSES:
        pause_s = retry_after_s(response.headers)
        pause = "" if pause_s is None else f" and asks for a pause of {pause_s:.0f} s"
        raise BackendUnavailable(f"{response.url} answered HTTP {status}{pause}", retry_after_s=pause_s)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the pause that Retry-After asks for, seconds, given as a number or as a date (RFC 9110, 10.2.3).

    None if the header is missing or cannot be read.
    """
    value = headers.get("Retry-After", "")
    try:
        pause_s = float(value)
    except ValueError:
        pause_s = _seconds_until(value, headers.get("Date", ""))
    return min(pause_s, _MAX_RETRY_AFTER_S) if pause_s >= 0 else None  # None for NaN too


def json_body(response: requests.Response) -> Any:
    """Return the JSON value in a body. Raises BackendUnavailable if there is none."""
    try:
        # Not response.json(): NaN and infinities, which no answer of these APIs holds, could not be sent back.
        return json.loads(response.content, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise BackendUnavailable(f"{response.url} answered HTTP {response.status_code} without valid JSON") from error


def bounded_text(value: Any) -> str:
    """Return a server's message as text of bounded length that can be logged."""
    try:
        text = value if isinstance(value, str) else json.dumps(value)
    except RecursionError:
        text = "a very deeply nested value"
    return text[:_MAX_MESSAGE_CHARACTERS].encode("utf-8", "backslashreplace").decode()


def _cause(error: Exception) -> str:
    """Return the cause of an error of requests, without the names of the connection objects around it."""
    cause = error.args[0] if error.args else error
    text = _CONNECTION_PREFIX.sub("", str(getattr(cause, "reason", None) or cause))
    if "WRONG_VERSION_NUMBER" in text:
        return f"{text}; the server does not use TLS, so its address may have to begin with http://"
    return text


def _seconds_until(date: str, now: str) -> float:
    """Return the time from `now`, by the server's clock, to `date`; NaN if `date` cannot be read.

    This host's clock may differ from the server's, so it is used only if `now` is missing.
    """
    until = _http_date(date)
    if until is None:
        return math.nan
    return max((until - (_http_date(now) or datetime.now(timezone.utc))).total_seconds(), 0.0)


def _http_date(date: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _read_body(response: requests.Response, limit_s: float) -> None:
    """Read the whole body. Raises RequestException, or BackendUnavailable if it is too large or takes too long.

    The time-out of requests limits only the pause between two pieces.
    """
    deadline_s = time.monotonic() + limit_s
    parts: list[bytes] = []
    size = 0
    for part in response.iter_content(_CHUNK_BYTES):
        parts.append(part)
        size += len(part)
        if size > MAX_BODY_BYTES:
            response.close()
            raise BackendUnavailable(f"{response.url} answered with more than {MAX_BODY_BYTES} bytes")
        if time.monotonic() > deadline_s:
            response.close()
            raise BackendUnavailable(f"{response.url} did not finish its answer within {limit_s:.0f} s")
    # The attribute in which requests keeps a body that it has read itself, which it does without any limit.
    response._content = b"".join(parts)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"not a finite number: {text:.20}")
    return number
