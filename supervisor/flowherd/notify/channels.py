"""The places to which notifications go: a command, a webhook, an apprise URL.

A channel delivers one message, waits for the answer, and raises DeliveryFailed if it was not taken. It is used by one
thread at a time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from flowherd import __version__
from flowherd.errors import FlowherdError
from flowherd.notify.message import TEST
from flowherd.notify.signature import signed_headers
from flowherd.shown_text import one_line

#: Beginnings of variables that a command does not inherit: settings, which may be tokens.
_OWN_VARIABLES = ("FLOWHERD__", "PREFECT__", "PREFECT_")
#: Maximum length of what an error says of a command's output or a webhook's answer, characters.
_MOST_SHOWN = 300
#: The program that hands a message to apprise. In a process of its own, which can be ended if it does not answer.
_APPRISE = (sys.executable, "-m", "flowherd.notify.send_by_apprise")
#: Exit code of that program if apprise is not installed.
NO_APPRISE = 69
MISSING_APPRISE = "apprise is not installed in the Python that delivers: pip install 'flowherd[notify]'"


class DeliveryFailed(FlowherdError):
    """A message was not taken; the text says why."""


class Channel(Protocol):
    """A place to which notifications go."""

    @property
    def kind(self) -> str:
        """Return "command", "webhook" or "apprise"."""

    @property
    def shown(self) -> str:
        """Where it goes, without secrets."""

    def deliver(self, message: Mapping[str, Any]) -> None:
        """Deliver a message, in the form of Notification.as_json. Raises DeliveryFailed."""


def secret_in(place: str) -> str:
    """Return the text at `file:PATH` or `env:VARIABLE`; another text is returned as it is.

    Raises DeliveryFailed if it cannot be read, or if other users may read the file.
    """
    kind, colon, where = place.partition(":")
    if not colon or kind not in ("file", "env") or where.startswith("//"):
        return place
    if kind == "env":
        try:
            return os.environ[where]
        except KeyError:
            raise DeliveryFailed(f"the variable {where} is not set") from None
    path = Path(where).expanduser()
    try:
        if path.stat().st_mode & 0o077:
            raise DeliveryFailed(f"{path} holds a secret, but other users may read it; chmod 600 it")
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DeliveryFailed(f"{path}, which should hold the secret, cannot be read: {error}") from error


@dataclass(frozen=True, kw_only=True)
class CommandChannel:
    """Runs a command for each message, which gets it as JSON on its standard input. Exit code 0 means delivered."""

    command: Sequence[str]
    timeout_s: float = 30.0
    kind: str = field(default="command", init=False)

    @property
    def shown(self) -> str:
        return one_line(" ".join(self.command))

    def deliver(self, message: Mapping[str, Any]) -> None:
        code, output = _run(self.command, json.dumps(message).encode(), self.timeout_s)
        if code:
            what = f"was ended by signal {-code}" if code < 0 else f"exited with {code}"
            raise DeliveryFailed(f"{self.command[0]} {what}{_said(output)}")


@dataclass(frozen=True, kw_only=True)
class WebhookChannel:
    """Sends each message as a POST with JSON. A status from 200 to 299 means delivered; a redirect is not followed."""

    #: URL, or the place of one (`secret_in`).
    url: str = field(repr=False)
    #: Place of the secret that signs (`secret_in`); empty: the request is not signed.
    secret: str = field(default="", repr=False)
    timeout_s: float = 30.0
    kind: str = field(default="webhook", init=False)

    @property
    def shown(self) -> str:
        return _shown_url(self.url)

    def deliver(self, message: Mapping[str, Any]) -> None:
        body = json.dumps(message).encode()
        try:
            signed = signed_headers(secret_in(self.secret), str(message["id"]), int(time.time()), body)
            headers = {"Content-Type": "application/json", "User-Agent": f"flowherd/{__version__}", **signed}
            request = urllib.request.Request(secret_in(self.url), body, headers, method="POST")
            if request.type not in ("http", "https"):
                raise DeliveryFailed(f"{self.shown} is not the address of a webhook: it begins with https://")
            with _opener().open(request, timeout=self.timeout_s):
                pass
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(_MOST_SHOWN)
            raise DeliveryFailed(f"{self.shown} answered {error.code} {error.reason}{_said(said)}") from error
        except (OSError, ValueError) as error:  # URLError is an OSError
            reason = getattr(error, "reason", error)
            raise DeliveryFailed(f"{self.shown} cannot be reached: {_without_url(reason, self.url)}") from error


@dataclass(frozen=True, kw_only=True)
class AppriseChannel:
    """Hands each message to apprise (extra `notify`), which knows mail, chat and many other services."""

    #: URL as apprise documents them, or the place of one (`secret_in`).
    url: str = field(repr=False)
    timeout_s: float = 30.0
    kind: str = field(default="apprise", init=False)

    @property
    def shown(self) -> str:
        return _shown_url(self.url)

    def deliver(self, message: Mapping[str, Any]) -> None:
        bad = message["kind"] not in ("recovered", TEST)
        given = {
            "url": secret_in(self.url),
            "title": message["title"],
            "body": message["text"] or message["title"],
            "type": "warning" if bad else "success" if message["kind"] == "recovered" else "info",
        }
        code, output = _run(_APPRISE, json.dumps(given).encode(), self.timeout_s)
        if code == NO_APPRISE:
            raise DeliveryFailed(MISSING_APPRISE)
        if code:
            raise DeliveryFailed(f"apprise could not deliver to {self.shown}{_said(output)}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        # urllib would repeat the POST as a GET, without the message.
        return None


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_NoRedirect())


def _run(command: Sequence[str], given: bytes, timeout_s: float) -> tuple[int, bytes]:
    """Run a command in a session of its own. Returns exit code and output. Raises DeliveryFailed."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(_OWN_VARIABLES)}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environ,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise DeliveryFailed(f"{command[0]} cannot be started: {error}") from error
    with process:
        try:
            output, _ = process.communicate(given, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            # It has not been waited for, so its number is still its own.
            os.killpg(process.pid, signal.SIGKILL)
            # Not communicate(): a descendant in another session may hold the pipe open.
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            process.wait()
            raise DeliveryFailed(f"{command[0]} did not end within {timeout_s:g} s, and was killed") from None
    return process.returncode, output


def _said(output: bytes) -> str:
    """Return the last line of an output, as the end of an error's sentence."""
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return f": {one_line(lines[-1])[:_MOST_SHOWN]}" if lines else ""


def _shown_url(url: str) -> str:
    """Return scheme and host of a URL: the rest, and even the user's name, may be a secret."""
    if url.startswith(("file:/", "env:")) and not url.startswith("file://"):
        return url
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return "(an address that is not shown)"
    # Of most of apprise's URLs the host is a token.
    return f"{parts.scheme}://{host}" if parts.scheme in ("http", "https") else f"{parts.scheme}://…"


def _without_url(reason: object, url: str) -> str:
    return one_line(str(reason).replace(url, "(the address)"))[:_MOST_SHOWN]
