"""One HTTP request and its whole answer, bounded in time and size. Knows no dialect and no address.

What went wrong on the way is BackendUnavailable; what a status or a body means is the dialect's transport's to say.
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

from flowherd.errors import BackendUnavailable

#: A proxy's or a busy server's passing trouble.
PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
#: Of one answer; the longest real ones are some megabytes.
MAX_BODY_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024
#: For the body of an answer, beyond the time-out of the request.
_BODY_TIME_S = 30.0
#: A server that is not to be asked for longer than this is asked all the same.
_LONGEST_WISH_S = 900.0
#: The object that urllib3 names before it says what happened.
_POOL_WORDS = re.compile(r"^<?HTTPS?Connection(Pool)?\b.*?(?:\)|>): ")
#: Of a server's message.
_MOST_CHARACTERS = 2000


class HttpClient:
    """Sends requests with the same headers; usable from several threads, each with its own HTTP session.

    `authorities` is a file with the certificates of those who may vouch for a server (PEM); empty is requests' own.
    """

    def __init__(self, headers: Mapping[str, str], authorities: str = "") -> None:
        self._headers = dict(headers)
        self._authorities = authorities
        self._thread = local()

    def attach_headers(self, headers: Mapping[str, str]) -> None:
        """Send these headers with every later request."""
        self._headers.update(headers)

    def send(self, method: str, url: str, *, timeout_s: float, **content: Any) -> requests.Response:
        """The answer with its body read. Raises BackendUnavailable when there is none, or one without end."""
        session: requests.Session | None = getattr(self._thread, "session", None)
        if session is None:
            session = self._thread.session = requests.Session()
            # Proxies and .netrc of the environment are not for a token that was meant for this address alone.
            session.trust_env = False
            session.verify = self._authorities or True
        try:
            response = session.request(
                method, url, headers=self._headers, timeout=timeout_s, allow_redirects=False, stream=True, **content
            )
            _read_body(response, time.monotonic() + timeout_s + _BODY_TIME_S)
        except (requests.RequestException, ValueError) as error:  # ValueError: a header that is no text
            raise BackendUnavailable(f"no answer from {url}: {_why(error)}") from error
        if response.status_code >= 500:  # servers break connections after such an answer without saying so in it
            session.close()
        return response

    def close(self) -> None:
        """Close this thread's session."""
        session = getattr(self._thread, "session", None)
        if session is not None:
            session.close()
            del self._thread.session


def json_of(response: requests.Response) -> Any:
    """The JSON value in a body. Raises BackendUnavailable when there is none."""
    try:
        # Not response.json(): NaN and the like, which no answer of these dialects holds, could not be sent back.
        return json.loads(response.content, parse_constant=_refused_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise BackendUnavailable(f"{response.url} answered {response.status_code} with no JSON") from error


def retry_after_s(response: requests.Response) -> float | None:
    """How long the server wishes not to be asked, in seconds or until a date (RFC 9110); None when it has no wish."""
    wish = response.headers.get("Retry-After", "")
    try:
        wish_s = float(wish)
    except ValueError:
        wish_s = _seconds_until(wish, response.headers.get("Date", ""))
    return min(wish_s, _LONGEST_WISH_S) if wish_s >= 0 else None  # and so for NaN


def _why(error: Exception) -> str:
    """What stands behind an error of requests, without the pools and objects around it."""
    cause = error.args[0] if error.args else error
    text = str(getattr(cause, "reason", None) or cause)
    told = _POOL_WORDS.sub("", text)
    if "WRONG_VERSION_NUMBER" in told:
        return f"{told}; there is no TLS, so its address may begin with http://"
    return told


def _seconds_until(date: str, now: str) -> float:
    """From `now`, what the server's clock said: this host's may be another. NaN where `date` is none."""
    until = _moment(date)
    if until is None:
        return math.nan
    return max((until - (_moment(now) or datetime.now(timezone.utc))).total_seconds(), 0.0)


def _moment(date: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def shown(value: Any) -> str:
    """What a server says, as a text of bounded length that can be logged."""
    try:
        text = value if isinstance(value, str) else json.dumps(value)
    except RecursionError:
        text = "something nested very deeply"
    return text[:_MOST_CHARACTERS].encode("utf-8", "backslashreplace").decode()


def _read_body(response: requests.Response, deadline_s: float) -> None:
    """Take the whole body, unless it is too large or comes too slowly. Raises RequestException or BackendUnavailable.

    A time-out of requests bounds only the pause between two pieces.
    """
    parts: list[bytes] = []
    size = 0
    for part in response.iter_content(_CHUNK_BYTES):
        parts.append(part)
        size += len(part)
        if size > MAX_BODY_BYTES or time.monotonic() > deadline_s:
            response.close()
            why = "too slowly" if size <= MAX_BODY_BYTES else f"with more than {MAX_BODY_BYTES} bytes"
            raise BackendUnavailable(f"{response.url} answered {why}")
    # Where requests itself keeps a body that it has read; its own way to read one knows no bound.
    response._content = b"".join(parts)


def _refused_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"no number of this world: {text:.20}")
    return number
