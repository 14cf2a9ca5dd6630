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
from threading import local
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urljoin, urlsplit

from flowherd.backends.plain_http import Answer, PlainConnection, json_request
from flowherd.config.route import Route
from flowherd.config.urls import without_user
from flowherd.errors import BackendUnavailable, GatewayRefused, NotAuthorized

if TYPE_CHECKING:  # imported when it is needed: a short command does without
    import requests

#: An answer with its body read.
HttpAnswer: TypeAlias = "requests.Response | Answer"
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
#: Maximum number of requests for one answer, if each is redirected.
_MAX_REDIRECTS = 4
#: What urllib3 says if a proxy does not connect (RFC 9110, 9.3.6).
_TUNNEL_REFUSED = "Tunnel connection failed: 4"
#: Headers that only proxies send.
_PROXY_HEADERS = ("Proxy-Authenticate", "Proxy-Status", "X-Squid-Error")
#: Keys of which the APIs' own refusals have one; gates that answer in JSON have others, such as "message".
_API_KEYS = frozenset({"errors", "detail", "exception_message", "exception_detail"})
_HTML = re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE)
_TITLE = re.compile(r"<title>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_MAX_TITLE_CHARACTERS = 80
#: Directly, with the usual authorities.
DIRECT = Route()
#: Maximum length of a server's message, characters.
_MAX_MESSAGE_CHARACTERS = 2000


class HttpClient:
    """Sends requests with the same headers; usable from several threads, each with its own HTTP session.

    `route` is the way to the server; its headers are stronger than `headers`. With `plain`, queries to an address
    without TLS and proxy are tried without requests first, by a program of one thread.
    """

    def __init__(self, headers: Mapping[str, str], route: Route = DIRECT, *, plain: bool = False) -> None:
        self._headers = _merged(headers, route.headers)
        self._route = route
        self._thread = local()
        self._plain = PlainConnection() if plain else None
        if not route.verify:  # said at the start, and by `flowherd doctor`; not with every request
            import urllib3

            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def attach_headers(self, headers: Mapping[str, str]) -> None:
        """Send these headers with every later request."""
        self._headers = _merged(self._headers, headers)

    def send(
        self, method: str, url: str, *, timeout_s: float, headers: Mapping[str, str] | None = None, **content: Any
    ) -> HttpAnswer:
        """Send a request and return the answer with its body read; `headers` are for this request only.

        Raises BackendUnavailable if there is no answer, or if it is too large or too slow, and GatewayRefused if a
        proxy or a gate refuses the way to the server.
        """
        proxy = self._route.proxy_url(url)
        way = "" if proxy is None else f" through the proxy {proxy}"
        try:
            for _ in range(_MAX_REDIRECTS):
                response = self._send(method, url, timeout_s=timeout_s, headers=headers, **content)
                target = _redirected(response, method)
                if target is None:
                    break
                url = target
                content.pop("params", None)  # the target has them already
        # OSError: those of requests, and a file of certificates that is gone. ValueError: a header that is not text.
        except (OSError, ValueError) as error:
            from requests.exceptions import ProxyError

            cause = without_user(f"no answer from {url}{way}: {_cause(error)}")
            # The proxy's refusal is in the text only: it answers CONNECT, before there is a request of ours.
            if isinstance(error, ProxyError) and _TUNNEL_REFUSED in cause:
                raise GatewayRefused(cause) from error
            raise BackendUnavailable(cause) from error
        if response.status_code >= 500:  # servers close connections after such an answer without announcing it
            self._session().close()
        return response

    def close(self) -> None:
        """Close this thread's session."""
        if self._plain is not None:
            self._plain.close()
        session = getattr(self._thread, "session", None)
        if session is not None:
            session.close()
            del self._thread.session

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._thread, "session", None)
        if session is None:
            import requests

            session = self._thread.session = requests.Session()
            # What counts of the environment is in the route. A .netrc would replace the token.
            session.trust_env = False
            session.verify = (self._route.authorities or True) if self._route.verify else False
            session.cert = _certificate(self._route)
        return session

    def _send(
        self,
        method: str,
        url: str,
        *,
        timeout_s: float,
        headers: Mapping[str, str] | None,
        **content: Any,
    ) -> HttpAnswer:
        proxy = self._route.proxy_url(url)
        every = {**self._headers, **(headers or {})}
        if self._plain is not None and proxy is None and (body := json_request(content)) is not None:
            try:
                types = {"Content-Type": "application/json"}
                return self._plain.exchange(method, url, timeout_s, {**every, **types}, body)
            except TimeoutError:
                text = f"no answer from {url}: Read timed out. (read timeout={timeout_s})"
                raise BackendUnavailable(without_user(text)) from None
            except (OSError, ValueError):
                pass  # requests knows what this is, or how to say it
        response = self._session().request(
            method,
            url,
            headers=every,
            timeout=timeout_s,
            allow_redirects=False,
            stream=True,
            proxies={} if proxy is None else {"all": proxy},
            **content,
        )
        _read_body(response, timeout_s + _BODY_TIME_S)
        return response


def raise_for_common_status(response: HttpAnswer, credentials: str) -> None:
    """Raise for the statuses that mean the same in every API; return for all others.

    `credentials` names for the message what the server checks. Raises NotAuthorized for 401 and 403 of the server, and
    BackendUnavailable with the server's Retry-After for a temporary status. Redirects, web pages, 407, and 401 and 403
    that are not the API's own answers are GatewayRefused: every API answers in JSON.
    """
    status, url = response.status_code, without_user(response.url)
    by = f" from {_other_than_api(response)}" if is_web_page(response) else ""
    if 300 <= status < 400:
        target = without_user(response.headers.get("Location", "nowhere"))
        raise GatewayRefused(f"{url}: HTTP {status}, a redirect to {target:.200}, which is not followed")
    if status == 407 or (status in (401, 403) and not _is_of_api(response)):
        raise GatewayRefused(f"{url}: HTTP {status} from {_other_than_api(response)}; the API was not reached")
    if status in (401, 403):
        raise NotAuthorized(f"{url} does not accept the {credentials} (HTTP {status})", code=str(status))
    if status in TEMPORARY_STATUSES:
        pause_s = retry_after_s(response.headers)
        pause = "" if pause_s is None else f" and asks for a pause of {pause_s:.0f} s"
        raise BackendUnavailable(f"{url} answered HTTP {status}{by}{pause}", retry_after_s=pause_s)
    if by and status >= 400:
        raise GatewayRefused(f"{url}: HTTP {status}{by}; the API was not reached")


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


def json_body(response: HttpAnswer) -> Any:
    """Return the JSON value in a body. Raises BackendUnavailable if there is none, GatewayRefused for a web page."""
    try:
        # Not response.json(): NaN and infinities, which no answer of these APIs holds, could not be sent back.
        return json.loads(response.content, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        url, status = without_user(response.url), response.status_code
        if is_web_page(response):
            raise GatewayRefused(f"{url}: HTTP {status} from {_other_than_api(response)}, not the API") from error
        raise BackendUnavailable(f"{url} answered HTTP {status} without valid JSON") from error


def is_web_page(response: HttpAnswer) -> bool:
    """Whether an answer is HTML, as gates and proxies send it, and no API of Prefect does."""
    return response.headers.get("Content-Type", "").startswith("text/html") or _HTML.match(response.content) is not None


def _is_of_api(response: HttpAnswer) -> bool:
    """Whether a refusal may be the API's own: it is JSON as it sends it, and no proxy has put its name on it."""
    if any(name in response.headers for name in _PROXY_HEADERS):
        return False
    try:
        answer = json.loads(response.content)
    except (ValueError, RecursionError):
        return False
    return isinstance(answer, dict) and (not answer or not _API_KEYS.isdisjoint(answer))


def _other_than_api(response: HttpAnswer) -> str:
    """Describe what has answered in place of the API, by what it says of itself."""
    if response.status_code == 407:
        return "the proxy, which wants to know who asks (name and password are in the proxy's URL)"
    title = _TITLE.search(response.content.decode("utf-8", "replace"))
    named = " ".join(title[1].split())[:_MAX_TITLE_CHARACTERS] if title else ""
    server = response.headers.get("Server", "")[:_MAX_TITLE_CHARACTERS]
    return "a proxy or gate on the way" + (f" ({named or server})" if named or server else "")


def _certificate(route: Route) -> str | tuple[str, str] | None:
    if not route.client_cert:
        return None
    return (route.client_cert, route.client_key) if route.client_key else route.client_cert


def _redirected(response: HttpAnswer, method: str) -> str | None:
    """Return where a request is to be sent instead; None if it is not to be repeated.

    Only to the same host, because the token is for it alone, never from TLS to none, and a request with a body only if
    the answer keeps the method (RFC 9110, 15.4).
    """
    if response.status_code not in (307, 308) and not (response.status_code in (301, 302) and method == "GET"):
        return None
    if "Location" not in response.headers:
        return None
    target = urljoin(response.url, response.headers["Location"])
    try:
        here, there = urlsplit(response.url), urlsplit(target)
        same_port = (there.port or 0) == (here.port or 0)
    except ValueError:
        return None
    upgraded = here.scheme == "http" and there.scheme == "https"
    if there.hostname != here.hostname or not (upgraded or (here.scheme == there.scheme and same_port)):
        return None
    return target


def bounded_text(value: Any) -> str:
    """Return a server's message as text of bounded length that can be logged."""
    try:
        text = value if isinstance(value, str) else json.dumps(value)
    except RecursionError:
        text = "a very deeply nested value"
    return text[:_MAX_MESSAGE_CHARACTERS].encode("utf-8", "backslashreplace").decode()


def _merged(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, str]:
    """Return both; those of the second are stronger, in whatever case their names are written."""
    stronger = {name.lower() for name in second}
    return {**{name: value for name, value in first.items() if name.lower() not in stronger}, **second}


def _cause(error: Exception) -> str:
    """Return the cause of an error of requests, without the names of the connection objects around it."""
    import urllib3

    cause = error.args[0] if error.args else error
    reason, lead = getattr(cause, "reason", None) or cause, ""
    if isinstance(reason, urllib3.exceptions.ProxyError):
        reason, lead = reason.original_error, "the proxy does not answer or refuses: "
    if isinstance(reason, urllib3.exceptions.ProtocolError | urllib3.exceptions.DecodeError):
        # Their text is that of a tuple: what happened, and the error, if that is not part of it.
        parts = [" ".join(str(part).split()).rstrip(".") for part in reason.args]
        reason = ": ".join(part for number, part in enumerate(parts) if not number or part not in parts[0])
    text = lead + _CONNECTION_PREFIX.sub("", str(reason))
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
    from email.utils import parsedate_to_datetime

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
            raise BackendUnavailable(f"{without_user(response.url)} answered with more than {MAX_BODY_BYTES} bytes")
        if time.monotonic() > deadline_s:
            response.close()
            raise BackendUnavailable(f"{without_user(response.url)} did not finish its answer within {limit_s:.0f} s")
    # The attribute in which requests keeps a body that it has read itself, which it does without any limit.
    response._content = b"".join(parts)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"not a finite number: {text:.20}")
    return number
