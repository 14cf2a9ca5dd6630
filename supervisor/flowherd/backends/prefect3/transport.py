"""One request to Prefect 3's REST API, and which error of ours an answer means. Knows no endpoint by name.

The server answers JSON, also when it refuses; whatever is not JSON comes from somebody who stands in its place.
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
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from flowherd import __version__
from flowherd.backends.http import PASSING_STATUS, HttpClient, json_of, retry_after_s, shown
from flowherd.errors import BackendError, BackendRefused, BackendUnavailable, NotAuthorized

#: The Date header tells whole seconds, and on a busy server it is some seconds old; what can come of that says nothing.
#: To take a server's clock for slower than it is delays runs, so only a large difference is believed in that direction.
_AHEAD_S, _BEHIND_S = 2.0, 30.0
#: Answers whose Date is looked at: the least stale of them counts.
_CLOCK_SAMPLES = 32
#: The SQLite server is busy now and then for some milliseconds; these are the pauses before it is asked again.
_BUSY_PAUSES_S = (0.03, 0.1, 0.3)
#: Of the single complaints about a request, so many are told.
_MOST_COMPLAINTS = 3


class Prefect3Transport:
    """A connection to one API, as in http://HOST:4200/api; usable from several threads.

    `auth_string` is NAME:PASSWORD of a server with basic authentication and wins over `api_key`, as in Prefect's
    own client. `ssl_cert_file` holds the certificates of those who may vouch for the server, in place of the usual.

    Raises ValueError when `api` is no such address, or that file is not there.
    """

    def __init__(
        self,
        api: str,
        *,
        api_key: str = "",
        auth_string: str = "",
        ssl_cert_file: str = "",
        timeout_s: float = 15.0,
    ) -> None:
        parts = urlsplit(api)
        if parts.scheme not in ("http", "https") or not parts.netloc or "/api" not in parts.path:
            raise ValueError(f"no address of a Prefect 3 API, which looks like http://HOST:4200/api: {api!r}")
        if ssl_cert_file and parts.scheme == "https" and not Path(ssl_cert_file).is_file():
            raise ValueError(f"there is no file of certificates {ssl_cert_file} (PREFECT_API_SSL_CERT_FILE)")
        self.address = api.rstrip("/")
        self.ssl_cert_file = ssl_cert_file
        self.api_key = api_key
        self.auth_string = auth_string
        self._timeout_s = timeout_s
        self._clock_offsets_s: deque[float] = deque(maxlen=_CLOCK_SAMPLES)
        headers = {"User-Agent": f"flowherd/{__version__}", **_authorization(api_key, auth_string)}
        self._http = HttpClient(headers, ssl_cert_file)

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """The JSON answer. Raises BackendUnavailable, NotAuthorized or BackendRefused, as the others do."""
        return self._answer("GET", path, params=params)

    def post(self, path: str, body: Any, *, once: bool = False) -> Any:
        """The JSON answer; None where there is nothing to answer.

        A server that says that it is busy is asked again shortly, unless `once`: for what does harm when it was
        carried out in part.
        """
        return self._answer("POST", path, () if once else _BUSY_PAUSES_S, json=body)

    def patch(self, path: str, body: Any) -> Any:
        """The JSON answer; None where there is nothing to answer."""
        return self._answer("PATCH", path, json=body)

    def server_now(self) -> datetime:
        """What the server's clock says, as far as that is known: it decides what is due."""
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
        # Nothing is an answer only where the status says so: elsewhere it is what is left of one that was cut.
        return None if response.status_code == 204 else json_of(response)

    def _send(self, method: str, path: str, **content: Any) -> requests.Response:
        asked_s, asked_at = time.monotonic(), datetime.now(timezone.utc)
        response = self._http.send(method, self.address + path, timeout_s=self._timeout_s, **content)
        self._note_clock(response, asked_at + timedelta(seconds=(time.monotonic() - asked_s) / 2))
        return response

    def _note_clock(self, response: requests.Response, at: datetime) -> None:
        try:
            told = parsedate_to_datetime(response.headers["Date"])
            # The header leaves out the fraction of the second: half of one on average.
            self._clock_offsets_s.append((told - at).total_seconds() + 0.5)
        except (KeyError, TypeError, ValueError):
            return

    def _attach_csrf_token(self) -> None:
        """Servers can be set to ask every change for a token that they have given out to the same client."""
        client = str(uuid.uuid4())
        response = self._send("GET", "/csrf-token", params={"client": client})
        _raise_for_status(response)
        answer = json_of(response)
        token = answer.get("token") if isinstance(answer, dict) else None
        if not isinstance(token, str):
            raise BackendUnavailable(f"{response.url} answered without a token")
        self._http.attach_headers({"Prefect-Csrf-Client": client, "Prefect-Csrf-Token": token})


def segment(name: str) -> str:
    """A name as a part of a path."""
    return quote(name, safe="")


def _authorization(api_key: str, auth_string: str) -> dict[str, str]:
    if auth_string:
        return {"Authorization": "Basic " + base64.b64encode(auth_string.encode()).decode()}
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def _raise_for_status(response: requests.Response) -> None:
    status = response.status_code
    if 200 <= status < 300:
        return
    if status in (401, 403):
        raise NotAuthorized(f"{response.url} does not accept the credentials (HTTP {status})", code=str(status))
    if status in PASSING_STATUS:
        raise BackendUnavailable(f"{response.url} answered HTTP {status}", retry_after_s=retry_after_s(response))
    told = _told(response)
    if status < 400 or (status == 404 and not told):  # no server of Prefect's answers so: somebody stands in its place
        raise BackendUnavailable(f"{response.url} answered HTTP {status}")
    raise BackendRefused(f"{response.url} answered HTTP {status}: {told or 'no reason given'}", code=str(status))


def _told(response: requests.Response) -> str:
    """What the server has to say about a refusal, without the request that it repeats."""
    try:
        answer = json_of(response)
    except BackendError:
        return ""
    if not isinstance(answer, dict):
        return ""
    complaints = answer.get("exception_detail")
    details = [
        f"{item.get('loc')}: {item.get('msg')}"
        for item in (complaints[:_MOST_COMPLAINTS] if isinstance(complaints, list) else [])
        if isinstance(item, dict)
    ]
    return shown(" ".join([str(answer.get("detail") or answer.get("exception_message") or ""), *details]).strip())
